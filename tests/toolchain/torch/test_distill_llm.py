import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lm import TEXT, VOCABULARY, loaded, logits, make, of_another_kind, run, text, trained
from transformers import AutoModelForCausalLM, Lfm2Config, Lfm2ForCausalLM

from stages import _fitting
from stages._hidden import between
from stages.base import Artifact, Produced, Refused
from stages.distill_llm import DistillLlm
from tests.toolchain.workers import drawn_step, ended, killed_at, worker

SMALL = {
    "tokens": 4096, "window": 16, "batch": 8, "micro_batch": 4, "held_out": 4, "learning_rate": 0.01, "top_k": 16,
    "validate_every": 8, "checkpoint_every": 5,
}  # fmt: skip


def distil(model: Artifact, teacher: Artifact, out: Path, data: Artifact, **fields: Any) -> tuple[Artifact, Produced]:
    return run(DistillLlm.model_validate({**SMALL, **fields}), model, out, teacher=teacher, training=data)


def divergence(model: Artifact, teacher: Artifact) -> float:
    ours, theirs = (torch.log_softmax(logits(each)[:, :VOCABULARY], -1) for each in (model, teacher))
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("pair")
    return make(folder / "student", layers=2, seed=1), trained(make(folder / "teacher")), text(folder / "text")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"divergence": "reverse", "temperature": 2.0},
        {"logits": 0, "hidden": 1.0},
        {"hidden": 1.0, "attention": 1.0, "precision": "bfloat16"},
    ],
)
def test_a_student_comes_nearer_to_its_teacher(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact], fields: dict[str, Any]
) -> None:
    student, teacher, data = pair
    made, produced = distil(student, teacher, tmp_path / "out", data, **fields, held_out=4, patience=0)

    told = produced.facts["distillation"]
    assert told["steps"] == 32
    assert produced.tables[0].rows[0][0].startswith("0")
    if "logits" not in fields:
        assert divergence(made, teacher) < divergence(student, teacher)


def test_hard_labels_alone_learn_the_text(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, teacher, data = pair
    _, produced = distil(student, teacher, tmp_path / "out", data, logits=0, labels=1)

    told = produced.facts["distillation"]
    assert told["held_out_perplexity"] < told["held_out_perplexity_before"] / 10


def test_a_wider_teacher_is_projected_onto(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, _, data = pair
    wide = make(tmp_path / "wide", hidden=48)
    made, _ = distil(student, wide, tmp_path / "out", data, hidden=1.0)

    assert {key.split(".")[0] for key in loaded(made.path).state_dict()} == {"model", "lm_head"}


def test_attention_of_more_heads_is_compared_by_its_mean(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]
) -> None:
    student, _, data = pair
    teacher = make(tmp_path / "teacher", heads=4)
    distil(student, teacher, tmp_path / "out", data, attention=1.0, tokens=256)
    networks = [
        AutoModelForCausalLM.from_pretrained(each.path, attn_implementation="eager") for each in (student, teacher)
    ]
    given = torch.arange(3, 19)[None]
    _, loss = between(*networks, ((1, 3), (2, 6)), (0, 1.0), given)(given)
    with torch.no_grad():
        ours, theirs = (network(given, output_attentions=True).attentions for network in networks)
    wanted = [((ours[mine].mean(1) - theirs[its].mean(1)) ** 2).mean() for mine, its in ((0, 2), (1, 5))]

    assert float(loss.detach()) == pytest.approx(float(sum(wanted)) / 2)
    assert loss.requires_grad


def test_layers_without_attention_are_refused(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, _, data = pair
    kinds = ["conv", "full_attention"] * 3
    teacher = of_another_kind(tmp_path / "teacher", Lfm2Config, Lfm2ForCausalLM, layer_types=kinds)
    with pytest.raises(Refused) as caught:
        distil(student, teacher, tmp_path / "out", data, attention=1.0)

    assert caught.value.message == "`attention`: the teacher, Lfm2ForCausalLM, gives it for 3 of 6 layers"


@pytest.mark.parametrize("killed_at", [3, 13, 29])
def test_killed_at_a_step_and_resumed_the_weights_are_the_same_bytes(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact], killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher, data = pair
    whole, _ = distil(student, teacher, tmp_path / "whole", data)
    with monkeypatch.context() as patched:
        patched.setattr(_fitting._Run, "advance", _killed(_fitting._Run.advance, killed_at))
        with pytest.raises(KeyboardInterrupt):
            distil(student, teacher, tmp_path / "again", data)
    again, _ = distil(student, teacher, tmp_path / "again", data)

    files = [(each.path / "model.safetensors").read_bytes() for each in (whole, again)]
    assert files[0] == files[1]


def _killed(advance: Any, at: int) -> Any:
    def until(run: Any, moved: Any) -> None:
        if run.step == at:
            raise KeyboardInterrupt
        advance(run, moved)

    return until


def test_a_worker_killed_at_any_step_goes_on_to_the_same_bytes(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]
) -> None:
    fields = {**SMALL, "tokens": 16384}
    given = {"model": pair[0], "teacher": pair[1], "training": pair[2]}
    with worker(tmp_path / "again", "distill_llm", fields, **given) as process:
        killed_at(process, drawn_step(96))
    for name in ("again", "whole"):
        with worker(tmp_path / name, "distill_llm", fields, **given) as process:
            assert ended(process)["message"] == "answer"

    files = [(tmp_path / name / "out" / "model.safetensors").read_bytes() for name in ("again", "whole")]
    assert files[0] == files[1]


def test_a_loss_out_of_bounds_stops_and_keeps_the_best(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher, data = pair
    rate = _fitting.Plan.rate
    monkeypatch.setattr(_fitting.Plan, "rate", lambda plan, step: rate(plan, step) if step < 16 else math.inf)
    made, produced = distil(student, teacher, tmp_path / "out", data, labels=1)

    assert produced.notes[0] == "training diverged at step 18; the weights of step 16 were kept"
    assert all(bool(weights.isfinite().all()) for weights in loaded(made.path).parameters())


def test_a_loss_out_of_bounds_at_once_is_refused(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, teacher, data = pair
    with pytest.raises(Refused) as caught:
        distil(student, teacher, tmp_path / "out", data, learning_rate=1e30, warmup=0)

    assert caught.value.message.startswith("training diverged at step ")
    assert caught.value.hint == "lower `learning_rate`, which is 1e+30"


def test_too_little_text_says_how_much_is_needed(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, teacher, _ = pair
    with pytest.raises(Refused) as caught:
        distil(student, teacher, tmp_path / "out", text(tmp_path / "short", TEXT * 4))

    assert "4 held out and 8 a step need 192 tokens" in caught.value.message


def test_another_vocabulary_is_refused_whichever_way(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, _, data = pair
    other = make(tmp_path / "other", vocabulary=280)
    said = []
    for mine, its in ((student, other), (other, student)):
        with pytest.raises(Refused) as caught:
            distil(mine, its, tmp_path / "out", data)
        said.append(caught.value.message)

    start = "student and teacher have different tokenizers: token 280 is "
    assert said[0].startswith(start)
    assert said[0].endswith(" for the student and none for the teacher; 19 of 299 differ")
    assert said[1].startswith(start + "none for the student and ")


@pytest.mark.parametrize("wider", ["teacher", "student"])
def test_an_embedding_with_fillers_at_its_end_is_no_other_vocabulary(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact], wider: str
) -> None:
    small, large, data = pair
    models = {"student": small, "teacher": large}
    models[wider] = padded(models[wider], tmp_path / "padded")
    made, _ = distil(models["student"], models["teacher"], tmp_path / "out", data, top_k=VOCABULARY + 8)

    assert divergence(made, large) < divergence(small, large)


def padded(model: Artifact, folder: Path) -> Artifact:
    """Eight rows more in its embedding, which it finds likely; its tokenizer.json is written otherwise."""
    shutil.copytree(model.path, folder)
    network = loaded(folder)
    network.resize_token_embeddings(VOCABULARY + 8)
    network.get_input_embeddings().weight.data[VOCABULARY:] = network.get_input_embeddings().weight.data[:8]
    network.save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    return model.model_copy(update={"path": folder})


def test_a_student_that_is_not_smaller_is_told_of_whatever_its_source_told(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]
) -> None:
    student, _, data = pair
    plain = student.model_copy(update={"facts": {}})
    _, produced = distil(plain, plain, tmp_path / "out", data, tokens=256)

    count = student.facts["parameters"]
    assert produced.notes[-1] == (
        f"the student is not smaller than its teacher: {count:,} parameters against {count:,}"
    )
    assert produced.facts["parameters"] == produced.facts["distillation"]["parameters_of_teacher"] == count
