"""A classifier of 8x8 images, two convolutions and a matrix product, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stages._examples import Examples, Preprocess

CLASSES = 4


def make(folder: Path, opset: int = 17, batch: int | str = "batch", height: int | str = 8) -> Path:
    """Save a model with seeded random weights."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(0, 0.3, (16, 3, 3, 3)),
        "b1": random.normal(0, 0.1, 16),
        "w2": random.normal(0, 0.1, (16, 16, 3, 3)),
        "b2": random.normal(0, 0.1, 16),
        "w3": random.normal(0, 0.2, (16, CLASSES)),
        "b3": random.normal(0, 0.1, CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "w1", "b1"], ["c1"], "conv_1"),
        helper.make_node("Relu", ["c1"], ["r1"], "relu_1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "conv_2"),
        helper.make_node("Relu", ["c2"], ["r2"], "relu_2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["a"], "average"),
        helper.make_node("Flatten", ["a"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "head"),
    ]
    return save(folder, nodes, weights, [batch, 3, height, 8], [batch, CLASSES], "logits", opset)


def make_of(folder: Path, operator: str, **attributes: int) -> Path:
    """Save a model of one operator over (batch, 4, 4)."""
    node = helper.make_node(operator, ["pixels"], ["y"], "the_node", **attributes)
    return save(folder, [node], {}, ["batch", 4, 4], None, "y", 17)


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    given: list[int | str],
    made: list[int | str] | None,
    output: str,
    opset: int,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, made)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def examples(folder: Path, count: int = 32) -> Path:
    """Save random images as an `examples` artifact."""
    random = np.random.default_rng(1)
    folder.mkdir()
    pixels = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    Examples(pixels, random.integers(0, CLASSES, count), Preprocess(scale=1 / 255)).save(folder)
    return folder
