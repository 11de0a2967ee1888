"""predict.py in a virtual environment that holds what the bundle's own requirements.txt says, and nothing else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from program import WITHOUT_VNNI, Program

from pipelines.data.images import digits
from stages.base import ROOT

pytestmark = [pytest.mark.download]
DIGITS = ROOT / "configs" / "digits" / "onnxruntime_int8.yaml"
SHORT = ("evaluation.latency.max_pairs=5", "evaluation.latency.runs=10", "budgets.3.min=0.1")
STEPS = {
    "onnxruntime": [{"quantize_onnx": {"mode": "static", "examples": 200}}, "onnxruntime"],
    "openvino": [{"compress_openvino": {"examples": 200, "reduce_range": WITHOUT_VNNI}}, "openvino"],
}


def config(folder: Path, target: str) -> Path:
    """The digits' config with that target in place of ONNX Runtime."""
    tree: dict[str, Any] = yaml.safe_load(DIGITS.read_text())
    tree |= {"name": f"digits-{target}", "source": {"python": f"{DIGITS.parent / 'model.py'}:build"}}
    tree["steps"] = [*tree["steps"][:3], *STEPS[target]]
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / "config.yaml"


def virtual_environment(folder: Path, requirements: Path) -> Path:
    """Its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return python


@pytest.mark.parametrize("target", [*STEPS])
def test_classifier_predicts_with_its_own_requirements_alone(shared: Program, tmp_path: Path, target: str) -> None:
    ended = shared.run(config(tmp_path, target), *SHORT, "--json")
    assert ended.code == 0, ended.err
    bundle = Path(ended.report["bundle"])
    python = virtual_environment(tmp_path / "alone", bundle / "requirements.txt")
    pixels, labels = digits()
    np.save(tmp_path / "images.npy", pixels)

    said = subprocess.run(
        [python, "-I", bundle / "predict.py", "images.npy"], cwd=tmp_path, env={}, capture_output=True, text=True
    )

    assert said.returncode == 0, said.stderr
    told = [int(line.split()[1].partition(":")[0]) for line in said.stdout.splitlines()]
    assert np.mean(np.array(told) == labels) > 0.95
