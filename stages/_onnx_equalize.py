"""Cross-layer equalization: channels of two layers in a row brought to the same weight range.

For s > 0, relu(x / s) * s = relu(x): what a channel of the layer before is divided by, the layer behind multiplies.
With r1, r2 the greatest absolute weights that channel i has in the two layers, s_i = sqrt(r1_i * r2_i) / r2_i makes
both sqrt(r1_i * r2_i) (Nagel et al. 2019, arXiv:1906.04721). It is what weights of one scale a tensor need where a few
channels are far wider than the others, as in depthwise-separable networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages._onnx_absorb import Absorb, Affine, Channels, absorbers, scale_layer
from stages._onnx_graph import Exact, Graph, attributes

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool"})
_PASSED = _HOMOGENEOUS | {"Identity", "Dropout", "Flatten", "Reshape", "ReduceMean"}
_PASSES, _SETTLED = 20, 1e-3


@dataclass(frozen=True)
class _Pair:
    """Two layers in a row, and the tensor behind the last ReLU between them."""

    before: Any
    behind: Any
    tensor: str


def equalize(graph: Graph) -> dict[str, float]:
    """Equalize every pair in place, over and over until the scales settle, for a layer is in two pairs.

    Returns:
        The greatest ratio of a channel's range in the layer before to that behind, by pair, as it was found.
    """
    shapes = graph.shapes()
    pairs = [pair for node in graph.proto.node if (pair := _pair(graph, node))]
    found: dict[str, float] = {}
    for _ in range(_PASSES):
        moved = [(pair, scale) for pair in pairs if (scale := _equalized(graph, shapes, pair)) is not None]
        for pair, scale in moved:
            found.setdefault(f"{pair.before.name} -> {pair.behind.name}", float(f"{(scale**2).max():.3g}"))
        if all(np.abs(np.log(scale)).max() < _SETTLED for _, scale in moved):
            break
    graph.prune()
    return found


def _pair(graph: Graph, node: Any) -> _Pair | None:
    """The pair that begins with a layer, where one user follows another up to a layer with constant weights."""
    if not _scalable(graph, node):
        return None
    tensor = last = node.output[0]
    while len(users := graph.consumers.get(tensor, [])) == 1 and tensor not in graph.kept:
        user = users[0]
        if user.input[0] != tensor:
            return None
        if user.op_type in ("Conv", "Gemm", "MatMul"):
            return _Pair(node, user, last)
        if user.op_type not in _PASSED:
            return None
        tensor = user.output[0]
        if user.op_type in ("Relu", "LeakyRelu"):
            last = tensor
    return None


def _scalable(graph: Graph, node: Any) -> bool:
    given = attributes(node)
    biased = len(node.input) > 2 and node.input[2]
    return (
        node.op_type in ("Conv", "Gemm")
        and graph.weight(node, 1) is not None
        and (not biased or graph.weight(node, 2) is not None)
        and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0
    )


def _equalized(graph: Graph, shapes: Channels, pair: _Pair) -> Exact | None:
    """Equalize one pair; the scales, or None where the layer behind cannot take them."""
    first, second = _ranges_before(graph, pair.before), _ranges_behind(graph, pair.behind)
    if second is None or len(second) % len(first):
        return None
    second = second.reshape(len(first), -1).max(axis=1)
    used = (first > 0) & (second > 0)
    scale = np.where(used, np.sqrt(first * np.where(used, second, 1.0)) / np.where(used, second, 1.0), 1.0)
    behind: list[Absorb] | str = absorbers(graph, shapes, pair.tensor, Affine(scale, np.zeros_like(scale)))
    if isinstance(behind, str):
        return None
    scale_layer(graph, pair.before, 1 / scale, np.zeros_like(scale))
    for absorb in behind:
        absorb()
    return scale


def _ranges_before(graph: Graph, node: Any) -> Exact:
    """Greatest absolute weight of each output channel."""
    weight = graph.weight(node, 1)
    assert weight is not None
    axis = 1 if node.op_type == "Gemm" and not attributes(node).get("transB") else 0
    exact = np.abs(np.moveaxis(weight.astype(np.float64), axis, 0))
    return np.asarray(exact.reshape(len(exact), -1).max(axis=1))


def _ranges_behind(graph: Graph, node: Any) -> Exact | None:
    """Greatest absolute weight of each input channel."""
    weight = graph.weight(node, 1)
    if weight is None:
        return None
    exact = np.abs(weight.astype(np.float64))
    if node.op_type != "Conv":
        return np.asarray((exact.T if attributes(node).get("transB") else exact).max(axis=1))
    groups = attributes(node).get("group", 1)
    outputs, inputs = weight.shape[:2]
    return np.asarray(exact.reshape(groups, outputs // groups, inputs, -1).max(axis=(1, 3)).ravel())
