from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from running import WITHOUT_VNNI, ask, inputs, run
from tiny_nets import examples, graph, module

from stages.base import Artifact, Refused
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_onnx import QuantizeOnnx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


@pytest.fixture
def optimized(tmp_path: Path, calibration: Artifact) -> Artifact:
    source, _ = run(ExportOnnx(), module(tmp_path / "torch"), tmp_path / "exported", calibration)
    return run(OptimizeOnnx(), source, tmp_path / "optimized", calibration)[0]


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"method": "percentile"},
        {"method": "entropy"},
        {"symmetric_activations": True},
        {"per_channel": False},
        {"batch": 7},
    ],
)
def test_static_int8_is_near_float_and_whole(
    tmp_path: Path, optimized: Artifact, calibration: Artifact, fields: dict[str, Any]
) -> None:
    stage = QuantizeOnnx(examples=48, reduce_range=WITHOUT_VNNI, **fields)
    made, produced = run(stage, optimized, tmp_path / "int8", calibration)

    assert 0 < error(ask(made, inputs(calibration)), ask(optimized, inputs(calibration))) < 0.15
    assert produced.facts["precision"] == "int8"
    assert produced.facts["calibration_examples"] == 48
    assert produced.facts["float_nodes"] == []
    assert produced.facts["quantized_nodes"] >= 6


def test_quantizing_gives_the_same_bytes_and_a_smaller_model(
    tmp_path: Path, optimized: Artifact, calibration: Artifact
) -> None:
    first, _ = run(QuantizeOnnx(examples=8), optimized, tmp_path / "first", calibration)
    second, _ = run(QuantizeOnnx(examples=8), optimized, tmp_path / "second", calibration)

    assert (first.path / "model.onnx").read_bytes() == (second.path / "model.onnx").read_bytes()


@pytest.mark.parametrize("exclude", [("Gemm",), ("node_linear", "node_linear_1")])
def test_what_is_excluded_stays_float(
    tmp_path: Path, optimized: Artifact, calibration: Artifact, exclude: tuple[str, ...]
) -> None:
    _, produced = run(QuantizeOnnx(examples=8, exclude=exclude), optimized, tmp_path / "int8", calibration)

    assert sum("(Gemm)" in node for node in produced.facts["float_nodes"]) == 2
    assert not any("(Conv)" in node for node in produced.facts["float_nodes"])


def test_an_unknown_exclude_is_refused_with_what_was_meant(
    tmp_path: Path, optimized: Artifact, calibration: Artifact
) -> None:
    with pytest.raises(Refused) as caught:
        run(QuantizeOnnx(examples=8, exclude=("Gem",)), optimized, tmp_path / "int8", calibration)

    assert caught.value.message == "`exclude` names `Gem`, which is neither a node nor an operator of the model"
    assert caught.value.hint == "did you mean `Gemm`?"


@pytest.mark.parametrize(("opset", "constants"), [(11, False), (12, True), (17, True)])
def test_old_opsets_are_converted_and_constant_weights_quantized(
    tmp_path: Path, calibration: Artifact, opset: int, constants: bool
) -> None:
    source = graph(tmp_path / "source", opset, constants)
    made, produced = run(QuantizeOnnx(examples=48), source, tmp_path / "int8", calibration)

    assert error(ask(made, inputs(calibration)), ask(source, inputs(calibration))) < 0.15
    assert produced.facts["opset"] >= 13
    assert not any("(Conv)" in node or "(Gemm)" in node for node in produced.facts["float_nodes"])


def test_dynamic_int8_leaves_convolutions_float(tmp_path: Path, optimized: Artifact, calibration: Artifact) -> None:
    made, produced = run(QuantizeOnnx(mode="dynamic"), optimized, tmp_path / "int8")

    assert produced.facts["operators"]["MatMulInteger"] == 2
    assert produced.facts["operators"]["Conv"] == 2
    assert error(ask(made, inputs(calibration)), ask(optimized, inputs(calibration))) < 0.05


def test_float16_keeps_its_inputs_in_float32(tmp_path: Path, optimized: Artifact, calibration: Artifact) -> None:
    made, produced = run(QuantizeOnnx(mode="float16"), optimized, tmp_path / "half")

    assert produced.facts["precision"] == "float16"
    assert 0 < error(ask(made, inputs(calibration)), ask(optimized, inputs(calibration))) < 0.01


def test_a_mode_that_finds_nothing_is_refused(tmp_path: Path, optimized: Artifact) -> None:
    with pytest.raises(Refused, match="`mode: int4` finds nothing to quantize in this model"):
        run(QuantizeOnnx(mode="int4"), optimized, tmp_path / "int4")


def test_int4_packs_the_weights_of_a_matmul_and_stays_near_float(tmp_path: Path) -> None:
    source = matmul(tmp_path / "source")
    made, produced = run(QuantizeOnnx(mode="int4", block=32), source, tmp_path / "int4")
    given = np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)

    assert produced.facts["precision"] == "int4"
    assert produced.facts["operators"] == {"MatMulNBits": 1}
    assert 0 < error(ask(made, given), ask(source, given)) < 0.15
    assert (made.path / "model.onnx").stat().st_size < (source.path / "model.onnx").stat().st_size / 4


def matmul(folder: Path) -> Artifact:
    weights = np.random.default_rng(0).normal(0, 0.1, (64, 64)).astype(np.float32)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "dense")]
    made = helper.make_graph(nodes, "tiny", tensors[:1], tensors[1:], [numpy_helper.from_array(weights, "w")])
    folder.mkdir()
    opsets = [helper.make_opsetid("", 20)]
    (folder / "model.onnx").write_bytes(helper.make_model(made, opset_imports=opsets).SerializeToString())
    return Artifact(kind="onnx", path=folder, digest="0")


def test_fewer_examples_than_asked_are_refused(tmp_path: Path, optimized: Artifact, calibration: Artifact) -> None:
    with pytest.raises(Refused) as caught:
        run(QuantizeOnnx(), optimized, tmp_path / "int8", calibration)

    assert caught.value.message == "200 calibration examples were asked for, there are 48"
    assert caught.value.hint == "set `examples: 48`, or hold more out"


@pytest.mark.parametrize(("size", "layout"), [(16, "nchw"), (12, "nhwc")])
def test_examples_of_another_shape_are_refused(tmp_path: Path, optimized: Artifact, size: int, layout: str) -> None:
    other = examples(tmp_path / "other", 8, size, layout)
    with pytest.raises(Refused, match="calibration examples have the shape"):
        run(QuantizeOnnx(examples=8), optimized, tmp_path / "int8", other)


def test_weights_that_are_nan_are_refused_by_name(tmp_path: Path, calibration: Artifact) -> None:
    for constants in (False, True):
        source = graph(tmp_path / f"source{constants}", constants=constants, nan=True)
        with pytest.raises(Refused, match=r"model\.onnx: the weights `c` hold NaN"):
            run(QuantizeOnnx(examples=8), source, tmp_path / f"int8{constants}", calibration)


def test_a_quantized_model_is_not_quantized_again(tmp_path: Path, optimized: Artifact, calibration: Artifact) -> None:
    made, _ = run(QuantizeOnnx(examples=8), optimized, tmp_path / "int8", calibration)
    with pytest.raises(Refused, match="the model is quantized already"):
        run(QuantizeOnnx(examples=8), made, tmp_path / "again", calibration)
