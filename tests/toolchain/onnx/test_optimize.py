from pathlib import Path

import numpy as np
import pytest
from running import ask, inputs, run
from tiny_nets import examples, graph, module

from stages.base import Artifact, Refused
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx

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
