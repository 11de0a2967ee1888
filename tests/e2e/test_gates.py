"""Passes that make a model worse are caught, and the back-off mends what INT8 broke: a small real classifier."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import digits
import pytest
from program import ALONE, Ended, Program

AGREEMENT = {"metric": "top1_agreement", "min": "97%"}
BACKED = {"quantize_onnx": {"method": "auto", "examples": 400, "back_off": {"max_float_fraction": 0.25}}}


@pytest.fixture(scope="module")
def onnx_python(pythons: dict[str, Path]) -> Path:
    return pythons["onnx"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.with_doubles(tmp_path_factory.mktemp("doubles") / "checkout")


def run_double(program: Program, checkout: Path, config: Path) -> Ended:
    """`tapeout run` by a program that has the doubles."""
    command = [sys.executable, "-m", "pipelines.cli", "run", config, *ALONE, "--json", "--dist", program.dist]
    own = program.variables(PYTHONPATH=str(checkout))
    ended = subprocess.run(command, cwd=checkout, env=own, capture_output=True, text=True, timeout=600)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def failed(ended: Ended) -> dict[str, Any]:
    """The stage that was halted; nothing was packaged."""
    assert (ended.code, ended.report["status"], ended.report["bundle"]) == (1, "halted", None), ended.err
    halted: dict[str, Any] = ended.report["stages"][-1]
    assert halted["status"] == "halted"
    return halted


def test_back_off_finds_the_layer_with_outlier_weights_and_the_gate_passes(
    fresh: Program, onnx_python: Path, tmp_path: Path
) -> None:
    model = digits.model(onnx_python, tmp_path / "model", fragile=True)
    config = digits.config(model, [BACKED, "onnxruntime"], [AGREEMENT])
    plain = fresh.run(config, "steps.quantize_onnx.back_off=null", "--json")
    backed = fresh.run(config, "--json")

    halted = failed(plain)
    assert halted["stage"] == "quantize_onnx"
    assert re.fullmatch(
        r"top1_agreement is \d\d\.\d+% \(interval .*, at least 97\.0+% allowed\) after quantize_onnx", halted["message"]
    )
    assert backed.code == 0, backed.err
    quantized = backed.report["stages"][1]
    assert quantized["fields"]["back_off"]["min_agreement"] == 0.97
    assert quantized["facts"]["back_off"]["float_layers"] == ["layer_2"]
    assert quantized["report"]["metrics"]["top1_agreement"]["n"] == 1397
    assert quantized["report"]["metrics"]["top1_agreement"]["low"] > 0.97
    report = max(fresh.home.glob("runs/*/report.md"), key=lambda file: file.stat().st_mtime).read_text()
    assert "- `quantize_onnx`: back-off: returned `layer_2` to float (1 of 4 layers), on 200 calibration " in report
    assert "| `layer_2` | Gemm | " in report


def test_pass_that_makes_the_model_slower_is_called_that_and_halted(
    fresh: Program, onnx_python: Path, checkout: Path, tmp_path: Path
) -> None:
    model = digits.model(onnx_python, tmp_path / "model")
    latency = {"batch_sizes": [1], "runs": 10, "pairs": 3, "max_pairs": 5}
    budgets = [AGREEMENT, {"metric": "speed_ratio", "min": 1}]
    ended = run_double(fresh, checkout, digits.config(model, ["slow_down", "onnxruntime"], budgets, latency=latency))

    halted = failed(ended)
    assert re.fullmatch(
        r"speed_ratio is 0\.\d+x \(interval 0\.\d+x?\.\.0\.\d+x, at least 1(\.0+)?x allowed\) after onnxruntime: "
        r"slower than its float version",
        halted["message"],
    )
    assert halted["report"]["metrics"]["top1_agreement"]["value"] == 1


def test_pass_that_swaps_two_channels_in_silence_is_halted(
    fresh: Program, onnx_python: Path, checkout: Path, tmp_path: Path
) -> None:
    model = digits.model(onnx_python, tmp_path / "model")
    ended = run_double(fresh, checkout, digits.config(model, ["swap_channels", "onnxruntime"], [AGREEMENT]))

    halted = failed(ended)
    assert halted["stage"] == "swap_channels"
    assert re.fullmatch(
        r"top1_agreement is \d\d\.\d+% \(interval .*, at least 97\.0+% allowed\) after swap_channels", halted["message"]
    )
