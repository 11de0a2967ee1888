"""A tiny BERT from its config to INT8 on both runtimes, to its bundle, to `tapeout verify`."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from program import WITHOUT_VNNI, Program
from test_bundle_alone import virtual_environment

from stages.base import ROOT

pytestmark = [pytest.mark.download]
MODEL = "import sys, tiny_hf; from pathlib import Path; tiny_hf.bert(Path(sys.argv[1]))"
WORDS = ("the", "a", "man", "woman", "eats", "drinks", "food", "water", "stock", "market", "fell", "rose", "today")
STEPS = {
    "onnxruntime": [{"quantize_onnx": {"mode": "dynamic", "reduce_range": True}}, "onnxruntime"],
    "openvino": [
        {"compress_openvino": {"transformer": True, "examples": 40, "reduce_range": WITHOUT_VNNI}},
        {"openvino": {"cache": True}},
    ],
}


@pytest.fixture(scope="module")
def bert(pythons: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, with tokenizer and pooling."""
    folder = tmp_path_factory.mktemp("bert") / "model"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests/toolchain/onnx")))
    subprocess.run([pythons["onnx"], "-c", MODEL, folder], env={"PYTHONPATH": paths}, check=True, capture_output=True)
    return folder


def squad(file: Path, passages: int, seed: int) -> Path:
    """Passages of words that the tokenizer knows, each with a question of some of them."""
    random = np.random.default_rng(seed)
    contexts = [" ".join(random.choice(WORDS, size=8 + n % 9)) for n in range(passages)]
    paragraphs = [{"context": told, "qas": [{"question": " ".join(told.split()[:6])}]} for told in contexts]
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return file


def config(folder: Path, bert: Path, target: str) -> Path:
    tree: dict[str, Any] = {
        "name": f"tiny-bert-{target}",
        "source": {"path": str(bert)},
        "steps": ["export_onnx", "optimize_onnx", *STEPS[target]],
        "data": {
            "evaluation": {"path": squad(folder / "evaluation.json", 60, 0).name, "reader": "squad"},
            "calibration": {"path": squad(folder / "calibration.json", 60, 1).name, "reader": "squad"},
        },
        "evaluation": {
            "embeddings": {"length": 16, "passages": 60, "queries": 60, "neighbours": 5},
            "latency": {"batch_sizes": [4], "runs": 5, "pairs": 3, "max_pairs": 3},
        },
        "budgets": [{"metric": "cosine_agreement", "min": 0.95}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / "config.yaml"


@pytest.mark.parametrize("target", [*STEPS])
def test_encoder_is_quantized_packaged_verified_and_embeds_alone(
    shared: Program, bert: Path, tmp_path: Path, target: str
) -> None:
    ended = shared.run(config(tmp_path, bert, target), "--json")
    assert ended.code == 0, ended.err
    last = ended.report["stages"][-1]["report"]["metrics"]
    assert 0.95 < last["cosine_agreement"]["value"] < 1
    assert {"recall", "rank_agreement", "speed_ratio"} <= last.keys()

    bundle = Path(ended.report["bundle"])
    assert (bundle / "openvino.blob").is_file() == (target == "openvino")
    assert shared("verify", bundle).code == 0

    python = virtual_environment(tmp_path / "alone", bundle / "requirements.txt")
    said = subprocess.run(
        [python, "-I", bundle / "predict.py", "the man eats food", "the man eats water", "stock market rose today"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    near, nearer, far = np.array([json.loads(line) for line in said.stdout.splitlines()])
    assert near @ nearer > near @ far
    assert shared("verify", bundle, "--files-only").code == 0, "what predict.py did changed the bundle"
