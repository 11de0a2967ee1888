from pathlib import Path
from typing import Any

import pytest
from program import Ended, Program

from stages.base import ROOT

pytestmark = [pytest.mark.e2e]
CONFIGS = ROOT / "configs" / "digits"
SHORT = ("evaluation.latency.max_pairs=5", "evaluation.latency.runs=10")


@pytest.mark.parametrize("precision", ["int8", "pruned"])
def test_digits_are_trained_compressed_measured_and_packaged(shared: Program, precision: str) -> None:
    limit = ["budgets.3.min=0.1"] if precision == "int8" else []  # nobody relies on so short a timing
    ended = shared.run(CONFIGS / f"onnxruntime_{precision}.yaml", *SHORT, *limit, "--json")

    assert ended.code == 0, ended.err
    stages = {record["stage"]: record for record in ended.report["stages"]}
    assert stages["train_classifier"]["role"] == "reference"
    assert stages["source"]["report"] is None
    assert ended.report["data"]["documents"] == 800
    accuracy = stages["onnxruntime"]["report"]["metrics"]["accuracy_top1"]
    assert (accuracy["n"], accuracy["value"] > 0.95) == (800, True)
    assert (Path(ended.report["bundle"]) / "predict.py").is_file()
    assert shared("verify", ended.report["bundle"], "--files-only").code == 0


def test_fewer_channels_are_fewer_bytes_and_operations(shared: Program) -> None:
    ended = shared.run(CONFIGS / "onnxruntime_pruned.yaml", *SHORT, "--json")

    metrics = measured(ended, "prune_structured")
    assert metrics["speed_ratio_32"]["value"] > 1
    assert metrics["top1_agreement"]["value"] > 0.95
    channels = next(record for record in ended.report["stages"] if record["stage"] == "prune_structured")["facts"]
    assert channels["channels"] == {"0": "32 -> 16", "3": "64 -> 32", "7": "128 -> 64"}


def measured(ended: Ended, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in ended.report["stages"] if item["stage"] == stage)["report"]["metrics"]
    return found
