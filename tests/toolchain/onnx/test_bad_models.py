"""Models that a runtime or a machine has no room for: named, and with the way out."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from running import ask, inputs, run
from tiny_nets import SIZE, examples, graph

from stages._onnx_file import EXTERNAL, LARGEST_MESSAGE
from stages.base import Artifact, Refused
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_onnx import QuantizeOnnx
from targets.onnxruntime import Onnxruntime

SHAPE = ["batch", 3, SIZE, SIZE]


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


def saved(
    folder: Path, nodes: list[Any], shape: list[Any], weights: list[Any], kind: int = TensorProto.FLOAT
) -> Artifact:
    """An `onnx` artifact of opset 17 from `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, kind, shape if name == "x" else None) for name in ("x", "y")]
    made = helper.make_graph(nodes, "made", ends[:1], ends[1:], weights)
    folder.mkdir()
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=imports, ir_version=8), str(folder / "model.onnx"))
    return Artifact(kind="onnx", path=folder, digest="0")


def test_an_operator_that_the_runtime_lacks_is_named_with_the_opsets_that_have_it(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "first")]
    weights = [numpy_helper.from_array(np.ones((2, 3, 3, 3)), "w")]
    with pytest.raises(Refused) as caught:
        run(Onnxruntime(), saved(tmp_path / "source", nodes, SHAPE, weights, TensorProto.DOUBLE), tmp_path / "out")

    assert caught.value.message.endswith(
        " has no CPU kernel for Conv of opset 11, node `first`, with the types it has there"
    )
    assert caught.value.hint == (
        "it has one in opset 1 to 10 with tensor(float); opset 11 to 21 with tensor(float); opset 22 and later with "
        "tensor(float): export the model with one of these"
    )


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile", "auto"])
def test_a_calibration_that_would_not_fit_in_memory_is_refused_before_it_begins(
    tmp_path: Path, calibration: Artifact, method: str
) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["1"], "grow"),
        helper.make_node("Conv", ["1", "w"], ["y"], "conv"),
    ]
    weights = [
        numpy_helper.from_array(np.array([1, 1, 3000, 3000], dtype=np.float32), "scales"),
        numpy_helper.from_array(np.ones((2, 3, 1, 1), dtype=np.float32), "w"),
    ]
    source = saved(tmp_path / "source", nodes, SHAPE, weights)
    with pytest.raises(Refused, match=r"the activations of 16 examples take \d+\.\d GB, \d+\.\d GB are free"):
        run(QuantizeOnnx.model_validate({"method": method, "examples": 40}), source, tmp_path / "int8", calibration)


@pytest.mark.parametrize("stage", [OptimizeOnnx(), QuantizeOnnx(examples=48)], ids=["optimize", "quantize"])
@pytest.mark.parametrize("form", ["dynamic axes", "external data", "opset 11"])
def test_a_source_of_any_form_is_taken(
    tmp_path: Path, calibration: Artifact, stage: OptimizeOnnx | QuantizeOnnx, form: str
) -> None:
    source = graph(tmp_path / "source", opset=11 if form == "opset 11" else 17)
    file = source.path / "model.onnx"
    held = onnx.load(str(file))
    if form == "dynamic axes":
        for axis, name in zip(held.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
            axis.dim_param = name
        onnx.save(held, str(file))
    if form == "external data":
        onnx.save_model(held, str(file), save_as_external_data=True, location="held.bin", size_threshold=0)
    made, _ = run(stage, source, tmp_path / "out", calibration)

    ours, theirs = ask(made, inputs(calibration)), ask(source, inputs(calibration))
    assert np.abs(ours - theirs).max() < 0.15 * np.abs(theirs).max()
    assert sorted(found.name for found in made.path.iterdir()) == ["model.onnx"]


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes_is_taken_whole_and_refused_by_name_where_it_cannot_be(
    tmp_path: Path, calibration: Artifact
) -> None:
    features, width = 3 * SIZE * SIZE, 1_300_000
    size = 4 * features * width
    assert size > LARGEST_MESSAGE
    nodes = [
        helper.make_node("Flatten", ["x"], ["1"], "flatten"),
        helper.make_node("MatMul", ["1", "w"], ["2"], "wide"),
        helper.make_node("ReduceSum", ["2"], ["y"], "sum"),
    ]
    weight = TensorProto(name="w", dims=[features, width], data_type=TensorProto.FLOAT)
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=EXTERNAL)
    source = saved(tmp_path / "source", nodes, SHAPE, [weight])
    with (source.path / EXTERNAL).open("wb") as file:
        file.truncate(size)  # zeros that take no room on the disk

    with pytest.raises(Refused) as caught:
        run(QuantizeOnnx(examples=8), source, tmp_path / "int8", calibration)
    assert caught.value.message == (
        "2.2 GB of weights are too many for quantize_onnx: it passes the model on whole, and a protobuf message ends "
        "at 2 GB"
    )
    made, _ = run(Onnxruntime(), source, tmp_path / "out")
    assert (made.path / EXTERNAL).stat().st_size == size
