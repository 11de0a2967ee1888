"""A TensorRT config from its source to a bundle of engines, with no GPU to open one."""

import json
from pathlib import Path
from typing import Any

import pytest
from program import Ended, Program

from stages.base import ROOT
from targets.tensorrt import Tensorrt

pytestmark = [
    pytest.mark.download,
    pytest.mark.skipif(Tensorrt().cannot_measure() is None, reason="with a GPU the engines are opened and measured"),
]
CONFIG = ROOT / "configs" / "cifar10-cnn" / "tensorrt_rtx_int8.yaml"


@pytest.fixture(scope="module")
def ended(shared: Program) -> Ended:
    return shared.run(CONFIG, "evaluation.latency=null", "--json")


def stage(ended: Ended, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in ended.report["stages"] if item["stage"] == name)
    return found


def test_gate_judges_the_graph_and_the_engines_are_never_called_passed(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    judged, built = stage(ended, "quantize_tensorrt"), stage(ended, "tensorrt")

    assert {verdict["metric"]: verdict["passed"] for verdict in judged["verdicts"]} == {
        "accuracy_top1": True,
        "top1_agreement": True,
    }
    assert judged["report"]["metrics"]["top1_agreement"]["n"] == 9600
    assert (built["verdicts"], built["report"]) == ([], None)
    assert "GPU" in built["unmeasured"]


def test_bundle_holds_an_engine_for_each_generation_and_says_what_was_judged(ended: Ended, shared: Program) -> None:
    bundle = Path(ended.report["bundle"])
    engines = json.loads(next(bundle.rglob("engines.json")).read_text())

    assert [engine["compute_capability"] for engine in engines["engines"]] == ["7.5", "8.0", "8.6", "8.9", "12.0"]
    assert all((next(bundle.rglob(engine["file"]))).stat().st_size > 100_000 for engine in engines["engines"])
    assert "not measured on this device" in (bundle / "report.md").read_text()
    assert shared("verify", bundle, "--files-only").code == 0
