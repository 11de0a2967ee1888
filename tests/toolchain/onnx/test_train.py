from pathlib import Path

import numpy as np
import pytest
from running import inputs
from tiny_nets import examples, module

from stages._examples import Examples
from stages._torch_model import called, load
from stages.base import Artifact, Context, Refused
from stages.train_classifier import TrainClassifier


def train(model: Artifact, out: Path, data: Artifact, seed: int = 0, **fields: float) -> Artifact:
    out.mkdir()
    stage = TrainClassifier.model_validate({"epochs": 30, "learning_rate": 0.01, **fields})
    produced = stage.run(model, Context(out=out, scratch=out, seed=seed, inputs={"training": data}))
    return Artifact(kind="torch", path=out, digest="0", facts=produced.facts)


def right(model: Artifact, data: Artifact) -> float:
    (scores,) = called(load(model.path), inputs(data)).values()
    return float((scores.argmax(1) == Examples.load(data.path).labels).mean())


def test_training_learns_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    source, data = module(tmp_path / "torch"), examples(tmp_path / "examples")
    first, again, other = (train(source, tmp_path / name, data, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))

    state = [(each.path / "state.safetensors").read_bytes() for each in (first, again, other)]
    assert state[0] == state[1] != state[2]
    assert right(first, data) > right(source, data) + 0.2
    assert first.facts["training"]["examples"] == 48


def test_a_loss_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        train(module(tmp_path / "torch"), tmp_path / "out", examples(tmp_path / "examples"), learning_rate=1e30)

    assert caught.value.message.startswith("training diverged in epoch")
    assert caught.value.hint == "lower `learning_rate`, which is 1e+30"


def test_state_of_other_sizes_than_the_module_says_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source, data = module(tmp_path / "torch"), examples(tmp_path / "examples")
    made = train(source, tmp_path / "out", data)
    tensors = load_file(made.path / "state.safetensors")
    del tensors["0.weight"]
    save_file({**tensors, "nowhere.weight": np.zeros(1, np.float32)}, made.path / "state.safetensors")

    with pytest.raises(Refused, match=r"state\.safetensors: `0\.weight`: missing"):
        load(made.path)
