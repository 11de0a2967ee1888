from pathlib import Path

import numpy as np
import onnx
import pytest
from running import ask, inputs, run
from tiny_nets import examples, graph, module

from stages.base import Artifact, Refused
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_onnx import QuantizeOnnx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


@pytest.mark.parametrize(
    ("function", "folded", "shifts_kept", "kept"),
    [
        ("plain", 2, [], []),
        ("negative", 2, [], []),
        ("with_mean", 1, [], []),
        ("padded", 1, ["pads with zeros, which the shift would have to reach"], []),
        ("residual", 1, ["pads with zeros", "(Add) behind it takes no shift"], []),
        ("negative_before_max", 1, [], ["its scale is not positive, and node_max_pool2d"]),
    ],
)
def test_every_batchnorm_that_can_be_folded_is_and_the_function_stays(
    tmp_path: Path, calibration: Artifact, function: str, folded: int, shifts_kept: list[str], kept: list[str]
) -> None:
    source, _ = run(ExportOnnx(), module(tmp_path / "torch", function), tmp_path / "source", calibration)
    made, produced = run(OptimizeOnnx(slim=False, fuse="none"), source, tmp_path / "out", calibration)

    before, after = ask(source, inputs(calibration)), ask(made, inputs(calibration))
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
    facts = produced.facts
    for reasons, expected in ((facts["batchnorm_shift_kept"], shifts_kept), (facts["batchnorm_kept"], kept)):
        assert len(reasons) == len(expected)
        assert all(any(part in reason for reason in reasons.values()) for part in expected)
    assert len(facts["batchnorm_folded"]) == folded
    assert facts["operators"].get("BatchNormalization", 0) == len(kept)
    assert facts["parity"]["relative_difference"] < 1e-5


@pytest.mark.parametrize("constants", [False, True])
def test_weights_may_lie_in_constant_nodes(tmp_path: Path, calibration: Artifact, constants: bool) -> None:
    source = graph(tmp_path / "source", constants=constants)
    made, produced = run(OptimizeOnnx(), source, tmp_path / "out", calibration)

    assert produced.facts["batchnorm_folded"] == ["norm"]
    assert "Constant" not in produced.facts["operators"]
    assert np.allclose(ask(source, inputs(calibration)), ask(made, inputs(calibration)), atol=1e-5)


@pytest.mark.parametrize("operator", ["Identity", "LeakyRelu"])
def test_a_scale_passes_what_lies_between(tmp_path: Path, calibration: Artifact, operator: str) -> None:
    source = graph(tmp_path / "source", operator=(operator, ""))
    made, produced = run(OptimizeOnnx(slim=False, fuse="none"), source, tmp_path / "out", calibration)

    assert produced.facts["batchnorm_folded"] == ["norm"]
    assert np.allclose(ask(source, inputs(calibration)), ask(made, inputs(calibration)), atol=1e-5)


def test_a_batchnorm_that_cannot_be_folded_stays_with_the_reason(tmp_path: Path, calibration: Artifact) -> None:
    _, produced = run(OptimizeOnnx(), graph(tmp_path / "s", operator=("Sigmoid", "")), tmp_path / "out", calibration)

    assert produced.facts["batchnorm_kept"] == {"norm": "no scale passes the Sigmoid before it"}


def test_a_batchnorm_can_be_left_alone(tmp_path: Path, calibration: Artifact) -> None:
    stage = OptimizeOnnx(fold_batchnorm=False)
    _, produced = run(stage, graph(tmp_path / "source"), tmp_path / "out", calibration)

    assert produced.facts["operators"]["BatchNormalization"] == 1


def test_optimizing_gives_the_same_bytes(tmp_path: Path, calibration: Artifact) -> None:
    source = graph(tmp_path / "source")
    first, _ = run(OptimizeOnnx(), source, tmp_path / "first", calibration)
    second, _ = run(OptimizeOnnx(), source, tmp_path / "second", calibration)

    assert (first.path / "model.onnx").read_bytes() == (second.path / "model.onnx").read_bytes()


def test_a_graph_that_no_longer_agrees_is_refused(tmp_path: Path, calibration: Artifact) -> None:
    with pytest.raises(Refused, match="the optimized graph does not agree: outputs differ by up to"):
        run(OptimizeOnnx(tolerance=1e-12), graph(tmp_path / "source"), tmp_path / "out", calibration)


def test_equalizing_keeps_the_function_and_brings_neighbours_to_the_same_range(
    tmp_path: Path, calibration: Artifact
) -> None:
    source, _ = run(ExportOnnx(), module(tmp_path / "torch", "separable"), tmp_path / "source", calibration)
    made, produced = run(OptimizeOnnx(equalize=True), source, tmp_path / "out", calibration)

    before, after = ask(source, inputs(calibration)), ask(made, inputs(calibration))
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
    assert len(produced.facts["equalized"]) == 3
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx_model(made).graph.initializer}
    first, depthwise, pointwise = [
        weights[node.input[1]] for node in onnx_model(made).graph.node if node.op_type == "Conv"
    ]
    assert np.allclose(np.abs(first).max((1, 2, 3)), np.abs(depthwise).max((1, 2, 3)), rtol=0.02)
    assert np.allclose(np.abs(depthwise).max((1, 2, 3)), np.abs(pointwise).max((0, 2, 3)), rtol=0.02)


def test_equalizing_helps_where_a_few_channels_are_far_wider(tmp_path: Path, calibration: Artifact) -> None:
    source, _ = run(ExportOnnx(), module(tmp_path / "torch", "separable"), tmp_path / "source", calibration)
    expected, lost = ask(source, inputs(calibration)), {}
    for equalize in (False, True):
        made, _ = run(OptimizeOnnx(equalize=equalize), source, tmp_path / f"float{equalize}", calibration)
        int8, _ = run(QuantizeOnnx(per_channel=False, examples=48), made, tmp_path / f"int8{equalize}", calibration)
        lost[equalize] = float(np.abs(ask(int8, inputs(calibration)) - expected).mean() / np.abs(expected).mean())

    assert lost[True] < 0.5 * lost[False], lost


def onnx_model(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(artifact.path / "model.onnx")
