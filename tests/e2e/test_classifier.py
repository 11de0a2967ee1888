import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import WITHOUT_VNNI, Ended, Program

from pipelines.environments import Environments
from pipelines.home import home as users_home
from pipelines.progress import Silent
from stages.base import ROOT

pytestmark = [pytest.mark.download]
CONFIGS = ROOT / "configs" / "cifar10-cnn"
SHORT = ("evaluation.latency.max_pairs=5", "evaluation.latency.runs=10", "budgets.3.min=0.1")
NARROW = (f"steps.quantize_onnx.reduce_range={str(WITHOUT_VNNI).lower()}",)


@pytest.fixture(scope="module")
def passed(shared: Program, prefect: str) -> Ended:
    """The CIFAR-10 network at INT8, with a shorter timing whose ratio nobody relies on."""
    config = CONFIGS / "onnxruntime_int8.yaml"
    ended = shared("run", config, *SHORT, *NARROW, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)
    assert ended.code == 0, ended.err
    return ended


def metrics(ended: Ended, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in ended.report["stages"] if item["stage"] == stage)["report"]["metrics"]
    return found


def test_exported_graph_answers_as_torch_does_on_every_image(passed: Ended) -> None:
    float32 = metrics(passed, "export_onnx")

    assert passed.report["data"]["documents"] == 9600
    assert (float32["top1_agreement"]["value"], float32["top1_agreement"]["n"]) == (1.0, 9600)
    assert float32["accuracy_top1"]["change"]["value"] == 0
    assert 0.79 < float32["accuracy_top1"]["value"] < 0.81


def test_int8_holds_accuracy_and_nearly_every_answer(passed: Ended) -> None:
    int8 = metrics(passed, "onnxruntime")

    assert int8["accuracy_top1"]["change"]["low"] > -0.01
    # 7 bits, where the CPU needs them, keep fewer answers: 0.9689 was the interval's low end
    assert int8["top1_agreement"]["low"] > (0.96 if WITHOUT_VNNI else 0.97)
    assert {"latency_p50_ms", "latency_p95_ms", "latency_p50_ms_32", "speed_ratio", "speed_ratio_32"} <= set(int8)
    assert "throughput_per_s_32" in int8
    assert int8["size_bytes"]["value"] < 0.3 * metrics(passed, "export_onnx")["size_bytes"]["value"]


def test_bundle_predicts_without_tapeout(shared: Program, passed: Ended, tmp_path: Path) -> None:
    bundle = Path(passed.report["bundle"])
    python = Environments(users_home()).python("onnx", Silent())
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))

    said = subprocess.run(
        [python, "-I", bundle / "predict.py", tmp_path / "images.npy"], capture_output=True, text=True, check=True
    )

    assert [len(line.split()) for line in said.stdout.splitlines()] == [6, 6, 6]
    assert (bundle / "triton" / "cifar10-cnn-onnxruntime-int8" / "1" / "model.onnx").is_file()
    assert "onnxruntime==" in (bundle / "requirements.txt").read_text()
    assert shared("verify", bundle, "--files-only").code == 0


def test_quantized_as_exported_is_halted(shared: Program, passed: Ended, prefect: str) -> None:
    config = CONFIGS / "onnxruntime_int8_as_exported.yaml"
    ended = shared("run", config, *SHORT, *NARROW, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)

    assert ended.code == 1
    halted = ended.report["stages"][-1]
    assert (halted["stage"], halted["status"]) == ("quantize_onnx", "halted")
    assert any(verdict["metric"] == "top1_agreement" and not verdict["passed"] for verdict in halted["verdicts"])


def test_compare_puts_both_into_one_table(shared: Program, passed: Ended, prefect: str) -> None:
    configs = [CONFIGS / "onnxruntime_int8.yaml", CONFIGS / "onnxruntime_int8_as_exported.yaml"]
    chosen = [argument for text in (*SHORT, *NARROW) for argument in ("--set", text)]
    ended = shared("compare", *configs, *chosen, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)

    assert ended.code == 1
    assert [report["status"] for report in json.loads(ended.out)] == ["passed", "halted"]


def test_openvino_bundle_holds_and_predicts_without_tapeout(shared: Program, prefect: str, tmp_path: Path) -> None:
    config = CONFIGS / "openvino_int8.yaml"
    narrow = f"steps.compress_openvino.reduce_range={str(WITHOUT_VNNI).lower()}"
    ended = shared("run", config, *SHORT, narrow, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)
    assert ended.code == 0, ended.err
    int8 = metrics(ended, "openvino")
    assert int8["accuracy_top1"]["change"]["low"] > -0.01
    assert int8["top1_agreement"]["low"] > 0.97

    python = Environments(users_home()).python("openvino", Silent())
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    said = subprocess.run(
        [python, "-I", Path(ended.report["bundle"]) / "predict.py", "images.npy"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={},
    )
    assert [len(line.split()) for line in said.stdout.splitlines()] == [6, 6, 6]
    verified = shared("verify", ended.report["bundle"])
    assert verified.code == 0, verified.err
