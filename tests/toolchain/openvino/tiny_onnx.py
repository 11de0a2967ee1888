"""A small CNN as ONNX, with seeded weights and images it tells apart, made without a training framework."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stages._examples import Examples, Preprocess
from stages.base import Artifact

SIZE, CHANNELS, CLASSES, OPSET = 8, 3, 4, 20
SHAPE = ["batch", CHANNELS, SIZE, SIZE]


def save(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], folder: Path, shape: list[str | int]) -> Artifact:
    """From input `x` to output `y` as an artifact."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    folder.mkdir()
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    return Artifact(kind="onnx", path=folder, digest="0")


def cnn(folder: Path, outlier: float = 1.0, batch: str | int = "batch") -> Artifact:
    """Convolution, ReLU, BatchNorm, convolution, mean, dense; one channel of the first layer is `outlier` times
    as large as the others, and has no say in the answer."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {"w1": normal(16, CHANNELS, 3, 3), "b1": normal(16), "w2": normal(16, 16, 3, 3), "b2": normal(16)}
    weights |= {"gamma": np.abs(normal(16)) + 1, "beta": normal(16), "mean": normal(16), "var": np.abs(normal(16)) + 1}
    weights |= {"w3": normal(16, CLASSES), "b3": np.zeros(CLASSES, np.float32)}
    weights["w1"][0] *= outlier
    weights["w2"][:, 0] /= outlier
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("BatchNormalization", ["r1", "gamma", "beta", "mean", "var"], ["n1"], "norm"),
        helper.make_node("Conv", ["n1", "w2", "b2"], ["c2"], "second"),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "dense"),
    ]
    return save(nodes, weights, folder, [batch, *SHAPE[1:]])


def examples(folder: Path, count: int = 60, layout: str = "nchw") -> Artifact:
    """Images as an artifact; their labels mean nothing."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (count, SIZE, SIZE, CHANNELS)).astype(np.uint8)
    folder.mkdir()
    preprocess = Preprocess.model_validate({"layout": layout, "scale": 1 / 255})
    Examples(pixels, np.arange(count, dtype=np.int64) % CLASSES, preprocess).save(folder)
    return Artifact(kind="examples", path=folder, digest="0")
