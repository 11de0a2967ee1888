from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import killed
from tiny_hf import bert, tokens, vit

from stages._tokens import TEXT, Tokens
from stages._torch_model import called, load
from stages.base import Artifact, Context, Produced, Refused
from stages.distill_encoder import DistillEncoder

SMALL = {
    "keep": 2, "steps": 60, "batch": 8, "held_out": 10, "learning_rate": 0.003, "validate_every": 10,
    "checkpoint_every": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """A teacher of four layers, and texts."""
    folder = tmp_path_factory.mktemp("given")
    teacher = bert(folder / "teacher", hidden_layers=4)
    return teacher, tokens(folder / "tokens", teacher)


def distil(given: tuple[Artifact, Artifact], out: Path, **fields: Any) -> tuple[Artifact, Produced]:
    teacher, texts = given
    out.mkdir(exist_ok=True)
    stage = DistillEncoder.model_validate({**SMALL, **fields})
    scratch = out.with_name(out.name + ".scratch")
    produced = stage.run(
        teacher, Context(out=out, scratch=scratch, threads=1, inputs={"teacher": teacher, "training": texts})
    )
    return Artifact(kind="hf", path=out, digest="0", facts=produced.facts), produced


def cosine(model: Artifact, given: tuple[Artifact, Artifact]) -> float:
    teacher, texts = given
    fed = Tokens.load(texts.path).feed(np.arange(60), TEXT)
    ours, theirs = (
        called(load(each.path), *(fed[name] for name in TEXT))["sentence_embedding"] for each in (model, teacher)
    )
    return float((ours * theirs).sum(axis=1).mean())


@pytest.mark.parametrize("fields", [{}, {"hidden": 0}, {"embedding": 0, "hidden": 3}])
def test_a_student_of_half_the_layers_comes_nearer_to_its_teacher(
    tmp_path: Path, given: tuple[Artifact, Artifact], fields: dict[str, Any]
) -> None:
    made, produced = distil(given, tmp_path / "out", **fields)
    dropped, _ = distil(given, tmp_path / "dropped", steps=1, learning_rate=1e-12)

    told = produced.facts["distillation"]
    assert produced.facts["layers"] == 2
    assert 1 - cosine(made, given) < 0.5 * (1 - cosine(dropped, given))
    assert told["held_out_cosine"] > told["held_out_cosine_before"]
    assert cosine(made, given) == pytest.approx(told["held_out_cosine"], abs=0.1)
    assert produced.facts["parameters"] < told["parameters_of_teacher"]
    assert (made.path / "tokenizer.json").read_bytes() == (given[0].path / "tokenizer.json").read_bytes()
    assert (made.path / "1_Pooling" / "config.json").is_file()


@pytest.mark.parametrize("killed_at", [3, 37])
def test_killed_at_a_step_and_resumed_the_weights_are_the_same_bytes(
    tmp_path: Path, given: tuple[Artifact, Artifact], killed_at: int
) -> None:
    whole, _ = distil(given, tmp_path / "whole")
    with killed(killed_at):
        distil(given, tmp_path / "again")
    again, _ = distil(given, tmp_path / "again")

    files = [(each.path / "model.safetensors").read_bytes() for each in (whole, again)]
    assert files[0] == files[1]


def test_layers_may_be_given_by_hand(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    made, produced = distil(given, tmp_path / "out", keep=None, layers=[0, 3], steps=1, learning_rate=1e-12)
    spaced, _ = distil(given, tmp_path / "spaced", steps=1, learning_rate=1e-12)

    assert produced.facts["layers"] == 2
    assert (made.path / "model.safetensors").read_bytes() == (spaced.path / "model.safetensors").read_bytes()
    with pytest.raises(Refused, match=r"`layers` names layer 4, and the model has 4: 0 to 3"):
        distil(given, tmp_path / "beyond", keep=None, layers=[0, 4])


def test_nothing_to_drop_is_refused(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(Refused, match=r"the encoder has 4 layers: nothing to drop with `keep: 4`"):
        distil(given, tmp_path / "out", keep=4)


def test_too_few_texts_say_how_many_are_needed(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(Refused, match=r"60 training texts: 56 held out and 8 a step need 64"):
        distil(given, tmp_path / "out", held_out=56)


def test_a_student_as_large_as_its_teacher_is_told(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    _, produced = distil(given, tmp_path / "out", keep=None, steps=1)

    assert any(note.startswith("the student is not smaller than its teacher") for note in produced.notes)


def test_a_classifier_of_images_is_refused(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(Refused, match="a classifier of images, no text encoder"):
        distil((vit(tmp_path / "vit"), given[1]), tmp_path / "out")
