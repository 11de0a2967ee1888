import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import WITHOUT_VNNI, ask, inputs, killed
from test_distill import examples
from tiny_nets import SOURCE

from stages._examples import Examples
from stages._fake_quantize import FakeQuantized, FakeWeight
from stages._torch_model import called, load
from stages.base import Artifact, Context, Produced, Refused, Stage
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_aware import QuantizeAware
from stages.quantize_onnx import QuantizeOnnx
from stages.train_classifier import TrainClassifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SMALL = {"steps": 60, "batch": 16, "held_out": 12, "learning_rate": 2e-3, "validate_every": 10, "checkpoint_every": 7}
SPREAD = 2.4  # decades between the middle channel and the widest and narrowest: INT8 cannot hold the narrow ones
NET = """

def fragile():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.MaxPool2d(3), nn.Flatten(), nn.Linear(16 * 16, 5))
"""


def step(stage: Stage, model: Artifact, out: Path, **given: Artifact) -> tuple[Artifact, Produced]:
    out.mkdir(exist_ok=True)
    context = Context(out=out, scratch=out.with_name(f"{out.name}.scratch"), threads=1, inputs=given)
    context.scratch.mkdir(exist_ok=True)
    produced = stage.run(model, context)
    return Artifact(kind=stage.produces, path=out, digest="0", facts=produced.facts), produced


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """A trained classifier whose first channels are of very different ranges, which the second layer makes up for."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "source").mkdir()
    (folder / "source" / "model.py").write_text(SOURCE + NET)
    (folder / "source" / "model.json").write_text(json.dumps({"entry": "model.py:fragile", "weights": None}))
    source, data = Artifact(kind="torch", path=folder / "source", digest="0"), examples(folder / "examples")
    trained, _ = step(TrainClassifier(epochs=30, learning_rate=0.01), source, folder / "trained", training=data)
    module = load(trained.path)
    scales = torch.logspace(-SPREAD, SPREAD, 16)
    with torch.no_grad():
        module[1].weight.mul_(scales), module[1].bias.mul_(scales), module[3].weight.div_(scales.view(1, 16, 1, 1))
    from safetensors.torch import save_file

    save_file(module.state_dict(), trained.path / "state.safetensors")
    return trained, data


def aware(given: tuple[Artifact, Artifact], out: Path, **fields: Any) -> tuple[Artifact, Produced]:
    model, data = given
    return step(QuantizeAware.model_validate({**SMALL, **fields}), model, out, training=data)


def int8(model: Artifact, data: Artifact, folder: Path) -> np.ndarray:
    """What ONNX Runtime answers once the module is exported and quantized after training."""
    exported, _ = step(ExportOnnx(), model, folder / "exported", calibration=data)
    optimized, _ = step(OptimizeOnnx(), exported, folder / "optimized", calibration=data)
    quantizer = QuantizeOnnx(examples=96, reduce_range=WITHOUT_VNNI)
    quantized, _ = step(quantizer, optimized, folder / "int8", calibration=data)
    return ask(quantized, inputs(data))


def floats(model: Artifact, data: Artifact) -> np.ndarray:
    return next(iter(called(load(model.path), inputs(data)).values()))


def accuracy(scores: np.ndarray, data: Artifact) -> float:
    return float((scores.argmax(1) == Examples.load(data.path).labels).mean())


def test_int8_keeps_the_floats_accuracy_after_it_and_loses_it_without(
    tmp_path: Path, given: tuple[Artifact, Artifact]
) -> None:
    model, data = given
    made, produced = aware(given, tmp_path / "aware", steps=200, reduce_range=WITHOUT_VNNI)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    with_it, without = int8(made, data, tmp_path / "with"), int8(model, data, tmp_path / "without")
    told = produced.facts["quantize_aware"]

    assert accuracy(floats(model, data), data) == 1
    assert accuracy(without, data) < 0.6
    assert accuracy(with_it, data) > 0.9
    assert told["held_out_wrong"] < told["held_out_wrong_before"] - 0.3
    assert (told["layers"], made.facts["precision"]) == (3, "float32")


def test_what_is_simulated_is_what_onnxruntime_computes(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    model, data = given
    module, shown = load(model.path), torch.from_numpy(inputs(data))
    with torch.no_grad():
        module[1].weight[8:] /= 30  # so that something is left in INT8 at all
        module[1].bias[8:] /= 30
        module[3].weight[:, 8:] *= 30
    (tmp_path / "model").mkdir()
    for file in model.path.iterdir():
        if file.is_file():
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import save_file

    save_file(module.state_dict(), tmp_path / "model" / "state.safetensors")
    milder = Artifact(kind="torch", path=tmp_path / "model", digest="1")
    exact, real = floats(milder, data), int8(milder, data, tmp_path)
    levels = 64 if WITHOUT_VNNI else 127
    with torch.no_grad():
        simulated = FakeQuantized(module, [shown], levels=levels).eval()(shown).numpy()

    assert np.linalg.norm(real - simulated) < np.linalg.norm(real - exact) / 2


def test_a_batchnorm_that_is_folded_later_changes_nothing_of_the_rounding() -> None:
    weight, scales = torch.randn(8, 3, 3, 3), torch.logspace(-2, 2, 8).view(8, 1, 1, 1) * torch.tensor([-1.0])
    rounded = FakeWeight(127)

    torch.testing.assert_close(rounded(weight * scales), rounded(weight) * scales)
    assert {len(channel.unique()) <= 5 for channel in FakeWeight(2)(weight)} == {True}


def test_the_module_comes_out_as_it_went_in_but_for_its_weights(
    tmp_path: Path, given: tuple[Artifact, Artifact]
) -> None:
    model, _ = given
    made, _ = aware(given, tmp_path / "out", steps=3, validate_every=3, exclude=["8"])
    before, after = (load(each.path).state_dict() for each in (model, made))

    assert before.keys() == after.keys()
    assert made.facts["quantize_aware"]["layers"] == 2
    assert torch.equal(before["1.running_mean"], after["1.running_mean"])
    assert all(len(channel.unique()) > 100 for channel in after["3.weight"])  # unrounded


@pytest.mark.parametrize("killed_at", [3, 20, 41])
def test_killed_and_resumed_the_weights_are_the_same_bytes(
    tmp_path: Path, given: tuple[Artifact, Artifact], killed_at: int
) -> None:
    whole, _ = aware(given, tmp_path / "whole")
    with killed(killed_at):
        aware(given, tmp_path / "again")
    again, _ = aware(given, tmp_path / "again")

    assert (whole.path / "state.safetensors").read_bytes() == (again.path / "state.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["head.*"], "`exclude`: no Conv or Linear layer is called `head.*`"),
        (["*"], "the module has no Conv or Linear layer to quantize"),
    ],
)
def test_nothing_to_quantize_is_refused(
    tmp_path: Path, given: tuple[Artifact, Artifact], exclude: list[str], message: str
) -> None:
    with pytest.raises(Refused) as caught:
        aware(given, tmp_path / "out", exclude=exclude)

    assert caught.value.message == message
