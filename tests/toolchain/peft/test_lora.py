from pathlib import Path
from typing import Any

import pytest
import torch

from stages import _fitting
from stages._lora import Adapters, Lora
from stages.base import Artifact, Produced, Refused
from stages.distill_llm import DistillLlm
from tests.toolchain.torch.tiny_lm import loaded, make, run, text, trained

SMALL = {
    "tokens": 4096, "window": 16, "batch": 8, "micro_batch": 4, "held_out": 4, "learning_rate": 0.02, "top_k": 16,
    "validate_every": 8, "checkpoint_every": 5, "labels": 1,
}  # fmt: skip
RANK, PER_LAYER = 4, 7


def heal(
    model: Artifact, teacher: Artifact, out: Path, data: Artifact, precision: str = "float32", **lora: Any
) -> tuple[Artifact, Produced]:
    lora = {"rank": RANK, "alpha": 8, **lora}
    stage = DistillLlm.model_validate({**SMALL, "precision": precision, "lora": lora})
    return run(stage, model, out, teacher=teacher, training=data)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("pair")
    return make(folder / "student", layers=2, seed=1), trained(make(folder / "teacher")), text(folder / "text")


def changes(model: Artifact, made: Artifact) -> dict[str, torch.Tensor]:
    """What was added to each tensor that is another one."""
    before, after = (loaded(each.path).state_dict() for each in (model, made))
    assert before.keys() == after.keys()
    return {name: after[name] - was for name, was in before.items() if not torch.equal(after[name], was)}


def test_adapters_alone_are_trained_and_perplexity_falls(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]
) -> None:
    student, teacher, data = pair
    made, produced = heal(student, teacher, tmp_path / "out", data)

    added = changes(student, made)
    told = produced.facts["distillation"]
    assert len(added) == 2 * PER_LAYER
    assert all(name.startswith("model.layers.") and name.endswith("_proj.weight") for name in added)
    assert {int(torch.linalg.matrix_rank(each.double(), rtol=1e-4)) for each in added.values()} == {RANK}
    assert told["lora"] == {"rank": RANK, "alpha": 8, "matrices": 14, "trained": _trained(student)}
    assert told["held_out_perplexity"] < told["held_out_perplexity_before"] / 3


def _trained(student: Artifact) -> int:
    layers = loaded(student.path).model.layers.modules()
    return sum(RANK * (each.in_features + each.out_features) for each in layers if isinstance(each, torch.nn.Linear))


def test_named_targets_alone_are_changed(tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact]) -> None:
    student, teacher, data = pair
    targets = ["q_proj", "down_proj"]
    made, _ = heal(student, teacher, tmp_path / "out", data, "bfloat16", targets=targets, dropout=0.1)

    assert sorted({name.split(".")[-2] for name in changes(student, made)}) == ["down_proj", "q_proj"]


@pytest.mark.parametrize("targets", [["q_prj"], ["lm_head"]])
def test_unknown_targets_and_the_head_are_refused(
    tmp_path: Path, pair: tuple[Artifact, Artifact, Artifact], targets: list[str]
) -> None:
    student, teacher, data = pair
    with pytest.raises(Refused) as caught:
        heal(student, teacher, tmp_path / "out", data, targets=targets)

    assert caught.value.message == f"`lora.targets`: the decoder has no `{targets[0]}`"
    assert caught.value.hint == "it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def test_the_merged_model_answers_as_the_adapted_one(pair: tuple[Artifact, Artifact, Artifact]) -> None:
    model, ids = loaded(pair[0].path).eval(), torch.arange(20)[None]
    with torch.inference_mode():
        bare = model(ids).logits
    adapters = Adapters.into(model, Lora(rank=RANK), seed=0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    with torch.inference_mode():
        adapted = model(ids).logits
        merged = adapters.merge()(ids).logits

    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)
    assert float((merged - bare).abs().max()) > 0.1


@pytest.mark.parametrize(("killed_at", "dropout"), [(3, 0.0), (13, 0.0), (29, 0.2)])
def test_killed_and_resumed_the_merged_weights_are_the_same_bytes(
    tmp_path: Path,
    pair: tuple[Artifact, Artifact, Artifact],
    killed_at: int,
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    student, teacher, data = pair
    whole, _ = heal(student, teacher, tmp_path / "whole", data, dropout=dropout)
    advance = _fitting._Run.advance

    def until(run: Any, moved: Any) -> None:
        if run.step == killed_at:
            raise KeyboardInterrupt
        advance(run, moved)

    with monkeypatch.context() as patched:
        patched.setattr(_fitting._Run, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            heal(student, teacher, tmp_path / "again", data, dropout=dropout)
    checkpoint = tmp_path / "again.scratch" / "resume" / "checkpoint.pt"
    if killed_at > SMALL["checkpoint_every"]:
        held = torch.load(checkpoint, weights_only=True)["module"]
        assert held
        assert all(".lora_" in name for name in held)
    again, _ = heal(student, teacher, tmp_path / "again", data, dropout=dropout)

    files = [(each.path / "model.safetensors").read_bytes() for each in (whole, again)]
    assert files[0] == files[1]
