import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_nets import examples, module

from stages._examples import Examples
from stages._torch_model import called, load
from stages.base import Artifact, Context, Produced, Refused
from stages.prune_structured import PruneStructured


@pytest.fixture
def images(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


def prune(model: Artifact, out: Path, images: Artifact, seed: int = 0, **fields: Any) -> tuple[Artifact, Produced]:
    stage = PruneStructured.model_validate({"ratio": 0.5, **fields})
    inputs = {"calibration": images, "training": images}
    out.mkdir()
    produced = stage.run(model, Context(out=out, scratch=out, seed=seed, inputs=inputs))
    return Artifact(kind="torch", path=out, digest="0", facts=produced.facts), produced


def scores(model: Artifact, images: Artifact) -> np.ndarray:
    held = Examples.load(images.path)
    return called(load(model.path), held.batch(0, len(held)))["output"]


def right(model: Artifact, images: Artifact) -> float:
    return float((scores(model, images).argmax(1) == Examples.load(images.path).labels).mean())


def test_half_of_the_channels_go_in_multiples_of_eight_and_every_class_stays(tmp_path: Path, images: Artifact) -> None:
    made, produced = prune(module(tmp_path / "model"), tmp_path / "out", images)

    assert produced.facts["channels"] == {"0": "24 -> 8", "5": "32 -> 16"}
    assert (produced.facts["parameters_before"], produced.facts["parameters"]) == (3524, 692)
    assert scores(made, images).shape == (96, 4)
    assert sorted(path.name for path in made.path.iterdir()) == ["model.json", "model.py", "state.safetensors"]
    assert load_file(made.path / "state.safetensors")["5.weight"].shape == (16, 32)


@pytest.mark.parametrize(
    ("function", "channels"),
    [
        ("residual", {"0": "24 -> 8", "3.inner.0": "24 -> 8", "6": "32 -> 16"}),
        ("depthwise", {"0": "24 -> 8", "3": "24 -> 8", "4": "40 -> 16", "6": "24 -> 8", "8": "32 -> 16"}),
    ],
)
def test_layers_that_share_channels_are_cut_together(
    tmp_path: Path, images: Artifact, function: str, channels: dict[str, str]
) -> None:
    made, produced = prune(module(tmp_path / "model", function), tmp_path / "out", images)

    assert produced.facts["channels"] == channels
    assert np.isfinite(scores(made, images)).all()


def test_excluded_layers_keep_their_channels(tmp_path: Path, images: Artifact) -> None:
    _, produced = prune(module(tmp_path / "model"), tmp_path / "out", images, exclude=("0",))

    assert produced.facts["channels"] == {"5": "32 -> 16"}


def test_layers_ranked_against_each_other_lose_different_shares(tmp_path: Path, images: Artifact) -> None:
    fields = {"scope": "global", "importance": "taylor", "round_to": 1}
    _, produced = prune(module(tmp_path / "model"), tmp_path / "out", images, **fields)

    left = {name: int(text.split(" -> ")[1]) for name, text in produced.facts["channels"].items()}
    assert left.keys() == {"0", "5"}
    assert 26 <= sum(left.values()) <= 30
    assert (left["0"], left["5"]) != (12, 16)


def test_fine_tuning_brings_answers_back_and_the_same_seed_the_same_bytes(tmp_path: Path, images: Artifact) -> None:
    source = module(tmp_path / "model")
    first, produced = prune(source, tmp_path / "first", images, epochs=8, learning_rate=0.01)
    again, _ = prune(source, tmp_path / "again", images, epochs=8, learning_rate=0.01)
    other, _ = prune(source, tmp_path / "other", images, epochs=8, learning_rate=0.01, seed=1)
    untuned, _ = prune(source, tmp_path / "untuned", images)

    state = [(each.path / "state.safetensors").read_bytes() for each in (first, again, other)]
    assert state[0] == state[1] != state[2]
    assert right(first, images) > 0.9 > right(untuned, images)
    assert produced.facts["fine_tuning"]["examples"] == 96


def test_pruned_module_can_be_pruned_again(tmp_path: Path, images: Artifact) -> None:
    once, _ = prune(module(tmp_path / "model"), tmp_path / "once", images, ratio=0.3)
    twice, produced = prune(once, tmp_path / "twice", images)

    assert produced.facts["channels"] == {"0": "16 -> 8", "5": "16 -> 8"}
    assert json.loads((twice.path / "model.json").read_text())["sizes"]["5"] == {"in_features": 32, "out_features": 8}
    assert scores(twice, images).shape == (96, 4)


def test_a_file_that_the_function_reads_stays_with_the_module(tmp_path: Path, images: Artifact) -> None:
    source = module(tmp_path / "model", "given", "weights.h5")
    (source.path / "weights.h5").write_text("floats")
    made, _ = prune(source, tmp_path / "out", images)

    assert (made.path / "weights.h5").is_file()
    assert scores(made, images).shape == (96, 4)


@pytest.mark.parametrize(
    ("function", "fields", "message", "hint"),
    [
        (
            "plain",
            {"exclude": ("7", "conv1")},
            "`exclude`: the module has no layer `conv1`",
            "it has 0, 5, 7",
        ),
        (
            "narrow",
            {},
            "no channel was cut: 0.5 of every layer, in multiples of 8, is none of it or all",
            "another `ratio`, or a lower `round_to`",
        ),
        (
            "plain",
            {"ratio": 0.9},
            "no channel was cut: 0.9 of every layer, in multiples of 8, is none of it or all",
            "another `ratio`, or a lower `round_to`",
        ),
        (
            "viewed",
            {},
            "torch-pruning does not find the channels of every layer again: index",
            "`exclude` the layers whose sizes the module's code counts on",
        ),
    ],
)
def test_what_cannot_be_pruned_is_refused(
    tmp_path: Path, images: Artifact, function: str, fields: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(Refused) as caught:
        prune(module(tmp_path / "model", function), tmp_path / "out", images, **fields)

    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint


@pytest.mark.parametrize("fields", [{"importance": "taylor"}, {"epochs": 1}])
def test_learning_needs_training_data(tmp_path: Path, fields: dict[str, Any]) -> None:
    stage = PruneStructured.model_validate({"ratio": 0.5, **fields})
    with pytest.raises(Refused) as caught:
        stage.run(module(tmp_path / "model"), Context(out=tmp_path, scratch=tmp_path))

    assert caught.value.message == "`prune_structured` trains on labelled examples, and there are none"
    assert caught.value.hint == "name `data: training:`"
