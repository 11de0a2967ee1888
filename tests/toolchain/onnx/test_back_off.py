from pathlib import Path

import numpy as np
import pytest
from running import ask, inputs, run
from tiny_nets import examples, fragile, graph

from stages._onnx_back_off import BackOff
from stages.base import Artifact, Refused
from stages.quantize_onnx import QuantizeOnnx


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples", 200)


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    return fragile(tmp_path / "source")


def same_top1(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours.argmax(1) == theirs.argmax(1)).mean())


def test_the_layer_with_outlier_weights_alone_returns_to_float(
    tmp_path: Path, source: Artifact, calibration: Artifact
) -> None:
    plain, _ = run(QuantizeOnnx(), source, tmp_path / "plain", calibration)
    stage = QuantizeOnnx(back_off=BackOff(min_agreement=0.97, max_float_fraction=0.25))
    made, produced = run(stage, source, tmp_path / "backed", calibration)

    expected, batch = ask(source, inputs(calibration)), inputs(calibration)
    assert same_top1(ask(plain, batch), expected) < 0.9
    assert same_top1(ask(made, batch), expected) > 0.97
    told = produced.facts["back_off"]
    assert told["float_layers"] == ["second"]
    assert told["float_fraction"] == 0.25
    assert told["reached"] is True
    assert next(iter(told["sensitivity"])) == "second"
    assert "second (Gemm)" in produced.facts["float_nodes"]
    assert produced.notes[0].startswith("back-off: returned `second` to float (1 of 4 layers), on 100 calibration ")
    (table,) = produced.tables
    assert [(row[0], row[5]) for row in table.rows][:2] == [("`second`", "float"), ("`first`", "int8")]


def test_what_cannot_be_reached_is_said_and_the_best_is_left_to_the_gate(
    tmp_path: Path, source: Artifact, calibration: Artifact
) -> None:
    stage = QuantizeOnnx(back_off=BackOff(min_agreement=0.97, max_float_fraction=0.2))
    _, produced = run(stage, source, tmp_path / "backed", calibration)

    assert produced.facts["back_off"]["float_layers"] == []
    assert produced.facts["back_off"]["reached"] is False
    assert produced.notes[0].endswith("short of 97.0% unchanged top-1, and max_float_fraction 0.2 allows no more")


def test_a_noise_limit_works_for_models_that_are_no_classifier(
    tmp_path: Path, source: Artifact, calibration: Artifact
) -> None:
    stage = QuantizeOnnx(back_off=BackOff(min_sqnr_db=30, max_float_fraction=0.5))
    _, produced = run(stage, source, tmp_path / "backed", calibration)

    assert produced.facts["back_off"]["float_layers"] == ["second", "first"]


def test_nothing_is_measured_layer_by_layer_where_plain_int8_will_do(tmp_path: Path, calibration: Artifact) -> None:
    stage = QuantizeOnnx(back_off=BackOff(min_sqnr_db=15))
    _, produced = run(stage, graph(tmp_path / "source"), tmp_path / "backed", calibration)

    assert produced.facts["back_off"]["sensitivity"] == {}
    assert produced.tables == ()


def test_a_back_off_without_a_limit_is_refused(tmp_path: Path, source: Artifact, calibration: Artifact) -> None:
    with pytest.raises(Refused, match="`back_off` has no limit to reach"):
        run(QuantizeOnnx(back_off=BackOff()), source, tmp_path / "backed", calibration)


def test_backing_off_gives_the_same_bytes(tmp_path: Path, source: Artifact, calibration: Artifact) -> None:
    stage = QuantizeOnnx(method="auto", back_off=BackOff(min_agreement=0.97, max_float_fraction=0.25))
    first, _ = run(stage, source, tmp_path / "first", calibration)
    second, _ = run(stage, source, tmp_path / "second", calibration)

    assert (first.path / "model.onnx").read_bytes() == (second.path / "model.onnx").read_bytes()


def test_the_best_of_four_methods_is_taken(tmp_path: Path, source: Artifact, calibration: Artifact) -> None:
    _, produced = run(QuantizeOnnx(method="auto"), source, tmp_path / "auto", calibration)
    told = produced.facts["methods"]

    assert list(told) == ["minmax", "percentile 99.99", "percentile 99.999", "entropy"]
    assert produced.facts["method_chosen"] in told
    assert (produced.facts["calibrated_on"], produced.facts["judged_on"]) == (100, 100)
    most = max(judged["agreement"] for judged in told.values())
    assert told[produced.facts["method_chosen"]]["agreement"] >= most - 0.05
    assert [row[3] for row in produced.tables[0].rows].count("chosen") == 1
