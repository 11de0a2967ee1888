from pathlib import Path

import numpy as np
import onnx
import pytest
from running import ask, inputs, run
from tiny_nets import examples, fragile, graph

from stages.base import Artifact
from stages.quantize_onnx import QuantizeOnnx


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples", 200)


def test_an_excluded_layer_is_still_float_once_the_runtime_has_loaded_it(tmp_path: Path, calibration: Artifact) -> None:
    source = fragile(tmp_path / "source")
    made, _ = run(QuantizeOnnx(exclude=("second",)), source, tmp_path / "int8", calibration)
    held = {tensor.name for tensor in onnx.load(str(made.path / "model.onnx")).graph.initializer}

    ours, theirs = ask(made, inputs(calibration)), ask(source, inputs(calibration))
    assert "v" in held, "the weights of `second`"
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.97


@pytest.mark.parametrize("exclude", ["conv", "Conv", "head"])
def test_a_model_with_float_layers_anywhere_says_nearly_the_same(
    tmp_path: Path, calibration: Artifact, exclude: str
) -> None:
    source = graph(tmp_path / "source")
    made, _ = run(QuantizeOnnx(exclude=(exclude,)), source, tmp_path / "int8", calibration)

    ours, theirs = ask(made, inputs(calibration)), ask(source, inputs(calibration))
    assert np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()
    onnx.checker.check_model(onnx.load(str(made.path / "model.onnx")))
