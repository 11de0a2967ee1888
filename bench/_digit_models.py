"""Small classifiers of handwritten digits as .onnx files: good ones, poor ones, one that INT8 breaks, a torn one."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from pipelines.data.image_parts import split
from pipelines.data.images import digits

CALIBRATION, WIDTH, OUTLIER = 400, 64, 300.0
Weights = dict[str, npt.NDArray[np.float32]]
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


def trained(examples: int = CALIBRATION) -> Weights:
    """Weights of four fully connected layers, w0 b0 ... w3 b3, that saw so many of the calibration images."""
    pixels, labels = split(*digits(), "calibration", CALIBRATION)
    network = MLPClassifier((WIDTH, WIDTH, WIDTH), max_iter=150, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(pixels[:examples].reshape(examples, -1) / 16, labels[:examples])
    weights = {f"w{index}": each.astype(np.float32) for index, each in enumerate(network.coefs_)}
    return weights | {f"b{index}": each.astype(np.float32) for index, each in enumerate(network.intercepts_)}


def fragile(weights: Weights) -> Weights:
    """The same function with outlier weights in `layer_2`: quantized, it forgets what it knew."""
    held = {name: each.copy() for name, each in weights.items()}
    held["w1"][:, 0] /= OUTLIER
    held["b1"][0] /= OUTLIER
    held["w2"][0] *= OUTLIER
    return held


def hesitant(weights: Weights, share: float) -> Weights:
    """Weights that answer 0 to that share of the images, so that, down to the tenth that are zeros, less is better."""
    pixels, _ = digits()
    answers = logits(weights, pixels)
    short_of = answers[:, 1:].max(axis=1) - answers[:, 0]
    held = {name: each.copy() for name, each in weights.items()}
    held["b3"][0] += np.float32(np.quantile(short_of, share))
    return held


def logits(weights: Weights, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Of images of shape (n, 1, 8, 8), shape (n, 10)."""
    hidden = pixels.reshape(len(pixels), -1).astype(np.float32) / 16
    for index in range(4):
        hidden = hidden @ weights[f"w{index}"] + weights[f"b{index}"]
        hidden = hidden if index == 3 else np.maximum(hidden, 0)
    return hidden


def write(python: Path, weights: Weights, file: Path) -> Path:
    """Write the .onnx file, with the interpreter of an environment that has onnx."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as held:
        np.savez(held, **weights)  # type: ignore[arg-type]
        held.flush()
        subprocess.run([python, "-c", WRITE, held.name, file], check=True, capture_output=True)
    return file


def torn(whole: Path, file: Path) -> Path:
    """The first half of a file's bytes: a copy that was cut off."""
    content = whole.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file
