"""A classifier of scikit-learn's handwritten digits, trained in a second on the images that calibrate."""

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from pipelines.data.images import digits, split
from stages.base import ROOT

CALIBRATION, WIDTH, OUTLIER = 400, 64, 300.0
WRITE = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

held = np.load(sys.argv[1])
count = len(held.files) // 2
nodes = [helper.make_node("Flatten", ["x"], ["h0"], "flatten")]
for i in range(count):
    last = i == count - 1
    made = "y" if last else f"g{i}"
    nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], [made], f"layer_{i}"))
    nodes += [] if last else [helper.make_node("Relu", [made], [f"h{i + 1}"], f"relu_{i}")]
value = helper.make_tensor_value_info
graph = helper.make_graph(
    nodes, "digits",
    [value("x", TensorProto.FLOAT, ["batch", 1, 8, 8])], [value("y", TensorProto.FLOAT, ["batch", 10])],
    [numpy_helper.from_array(held[name], name) for name in held.files],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[2])
"""


def model(python: Path, folder: Path, fragile: bool = False) -> Path:
    """model.onnx: four fully connected layers. `fragile` gives `layer_2` outlier weights and keeps the function."""
    folder.mkdir(parents=True, exist_ok=True)
    held = _trained()
    if fragile:
        held["w1"][:, 0] /= OUTLIER
        held["b1"][0] /= OUTLIER
        held["w2"][0] *= OUTLIER
    np.savez(folder / "weights.npz", **held)
    file = folder / "model.onnx"
    subprocess.run([python, "-c", WRITE, folder / "weights.npz", file], check=True, capture_output=True)
    return file


def config(model: Path, steps: list[Any], budgets: list[dict[str, Any]], **evaluation: Any) -> Path:
    """A config beside the model, which is its own reference."""
    file = model.with_name("config.yaml")
    tree = {
        "name": "digits",
        "source": {"path": model.name},
        "steps": steps,
        "reference": "onnxruntime",
        "data": {
            "evaluation": {"digits": True},
            "calibration": {"held_out": CALIBRATION},
            "preprocess": {"scale": 1 / 16},
        },
        "evaluation": {"latency": None, **evaluation},
        "budgets": budgets,
    }
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def with_doubles(checkout: Path) -> Path:
    """A copy of the program that has the test doubles among its stages."""
    for name in ("pipelines", "stages", "targets", "envs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for double in (ROOT / "tests/e2e/doubles").glob("*.py"):
        shutil.copyfile(double, checkout / "stages" / double.name)
    return checkout


def _trained() -> dict[str, Any]:
    pixels, labels = split(*digits(), "calibration", CALIBRATION)
    network = MLPClassifier((WIDTH, WIDTH, WIDTH), max_iter=150, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(pixels.reshape(len(pixels), -1) / 16, labels)
    weights = {f"w{index}": each.astype(np.float32) for index, each in enumerate(network.coefs_)}
    return weights | {f"b{index}": each.astype(np.float32) for index, each in enumerate(network.intercepts_)}
