"""Small networks as files: torch modules that a function builds, and ONNX graphs written by hand."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stages._examples import Examples, Preprocess
from stages.base import Artifact

SIZE, CLASSES = 12, 5
SOURCE = """
import torch
from torch import nn

def norm(channels, scales=None):
    made = nn.BatchNorm2d(channels)
    for values in (made.weight, made.running_var):
        nn.init.uniform_(values, 0.5, 2)
    for values in (made.bias, made.running_mean):
        nn.init.uniform_(values, -1, 1)
    if scales is not None:
        made.weight.data[:len(scales)] = torch.tensor(scales)
    return made

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), norm(8))

    def forward(self, x):
        return x + self.inner(x)

def build(between=(), scales=None, padding=0, pool=nn.MaxPool2d(2)):
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3), nn.ReLU(), norm(8, scales)]
    second = [nn.Conv2d(8, 8, 3, padding=padding, groups=2), nn.ReLU(), norm(8)]
    side = 5 if padding else 3
    head = [nn.Flatten(), nn.Linear(8 * side * side, 16), nn.ReLU(), nn.Linear(16, 5)]
    return nn.Sequential(*first, pool, *second, *between, *head)

def plain(): return build()
def negative(): return build(scales=[-1.5, 0.0, 0.7], pool=nn.AvgPool2d(2))
def negative_before_max(): return build(scales=[-1.5])
def padded(): return build(padding=1)
def residual(): return build(between=[Residual()])
def with_mean():
    class Mean(nn.Module):
        def forward(self, x): return x.mean((2, 3))
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), norm(8), Mean(), nn.Linear(8, 5))
def separable():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.ReLU(),
                        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 36, 5))
    scales = torch.logspace(-1.5, 1.5, 16)
    with torch.no_grad():
        for layer, shape in ((net[0], (16, 1, 1, 1)), (net[2], (16, 1, 1, 1))):
            layer.weight.mul_(scales.view(shape)), layer.bias.mul_(scales)
        net[2].weight.div_(scales.view(16, 1, 1, 1)), net[4].weight.div_(scales.view(1, 16, 1, 1))
    return net
def not_a_module(): return 3
def fixed():
    class Fixed(nn.Module):
        def forward(self, x): return x[0] if x.sum() > 0 else x[1]
    return Fixed()
"""


def module(folder: Path, function: str = "plain", weights: str | None = None) -> Artifact:
    """A `torch` artifact."""
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(SOURCE)
    (folder / "model.json").write_text(json.dumps({"entry": f"model.py:{function}", "weights": weights}))
    return Artifact(kind="torch", path=folder, digest="0")


def examples(folder: Path, count: int = 48, size: int = SIZE, layout: str = "nchw") -> Artifact:
    """An `examples` artifact of seeded pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    preprocess = Preprocess.model_validate({"layout": layout, "scale": 1 / 255})
    Examples(pixels, np.arange(count) % CLASSES, preprocess).save(folder)
    return Artifact(kind="examples", path=folder, digest="0")


def graph(
    folder: Path, opset: int = 17, constants: bool = False, nan: bool = False, operator: tuple[str, str] = ("Relu", "")
) -> Artifact:
    """An `onnx` artifact: Conv, an operator, BatchNorm, GlobalAveragePool, Flatten, Gemm."""
    rng = np.random.default_rng(0)
    held = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "b": rng.normal(0, 0.1, 8),
        "scale": rng.uniform(0.5, 2, 8),
        "shift": rng.normal(0, 1, 8),
        "mean": rng.normal(0, 1, 8),
        "var": rng.uniform(0.5, 2, 8),
        "v": rng.normal(0, 0.5, (8, CLASSES)),
        "c": np.full(CLASSES, np.nan) if nan else np.zeros(CLASSES),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["1"], "conv"),
        helper.make_node(operator[0], ["1"], ["2"], "activation", domain=operator[1]),
        helper.make_node("BatchNormalization", ["2", "scale", "shift", "mean", "var"], ["3"], "norm"),
        helper.make_node("GlobalAveragePool", ["3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "v", "c"], ["y"], "head"),
    ]
    if constants:
        nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in tensors] + nodes
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [] if constants else tensors,
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(operator[1], 1)] if operator[1] else [])
    folder.mkdir()
    onnx.save(helper.make_model(made, opset_imports=imports, ir_version=8), str(folder / "model.onnx"))
    return Artifact(kind="onnx", path=folder, digest="0")


def fragile(folder: Path, outlier: float = 300.0) -> Artifact:
    """An `onnx` artifact of four layers of which `second` alone has outlier weights, and says the same without them.

    One hidden unit is scaled down, and the weights that read it up by as much: the function stays, and in INT8 every
    other weight of `second` rounds to a few levels.
    """
    rng = np.random.default_rng(0)
    width = 32
    held = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "u": rng.normal(0, 0.3, (8, width)),
        "v": rng.normal(0, 0.3, (width, width)),
        "t": rng.normal(0, 0.3, (width, CLASSES)),
    }
    held["u"][:, 0] /= outlier
    held["v"][0] *= outlier
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["1"], "conv"),
        helper.make_node("GlobalMaxPool", ["1"], ["2"]),
        helper.make_node("Flatten", ["2"], ["3"]),
        helper.make_node("Gemm", ["3", "u"], ["4"], "first"),
        helper.make_node("Relu", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "v"], ["6"], "second"),
        helper.make_node("Relu", ["6"], ["7"]),
        helper.make_node("Gemm", ["7", "t"], ["y"], "third"),
    ]
    made = helper.make_graph(
        nodes,
        "fragile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    folder.mkdir()
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=imports, ir_version=8), str(folder / "model.onnx"))
    return Artifact(kind="onnx", path=folder, digest="0")
