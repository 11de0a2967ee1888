"""What the layers around an affine map of channels can take over from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stages._onnx_graph import Exact, Graph, attributes

Channels = Mapping[str, tuple[int | None, ...]]
Absorb = Callable[[], None]
_COMMUTING = frozenset({"MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"})
_FLATTENING = frozenset({"Flatten", "Reshape"})


@dataclass(frozen=True)
class Affine:
    """y = factor * x + shift, a channel each; shapes (channels,)."""

    factor: Exact
    shift: Exact

    @property
    def is_shift(self) -> bool:
        """Whether nothing is multiplied."""
        return bool((self.factor == 1).all())

    def repeated(self, times: int) -> Affine:
        """Each channel's map for that many features in a row."""
        return Affine(np.repeat(self.factor, times), np.repeat(self.shift, times))


def scale_layer(graph: Graph, node: Any, scale: Exact, shift: Exact) -> None:
    """Multiply a layer's output channels and add to them, within its weights and bias."""
    weight = graph.weight(node, 1)
    assert weight is not None
    axis = 1 if node.op_type == "Gemm" and not attributes(node).get("transB") else 0
    shape = [1] * weight.ndim
    shape[axis] = -1
    graph.set_weight(node, 1, (weight.astype(np.float64) * scale.reshape(shape)).astype(weight.dtype))
    _set_bias(graph, node, _bias(graph, node, len(scale)) * scale + shift, weight.dtype)


def absorbers(graph: Graph, shapes: Channels, tensor: str, rest: Affine) -> list[Absorb] | str:
    """What to call so that every layer behind `tensor` does the map itself; or the reason why one cannot."""
    users = graph.consumers.get(tensor, [])
    if tensor in graph.kept or not users:
        return "the result leaves the graph there"
    found: list[Absorb] = []
    for user in users:
        behind = _absorber(graph, shapes, tensor, user, rest)
        if isinstance(behind, str):
            return behind
        found += behind
    return found


def _absorber(graph: Graph, shapes: Channels, tensor: str, user: Any, rest: Affine) -> list[Absorb] | str:
    if user.input[0] != tensor or list(user.input).count(tensor) != 1:
        return f"{user.name} ({user.op_type}) behind it takes no shift"
    if user.op_type in _COMMUTING:
        return _not_commuting(user, rest) or absorbers(graph, shapes, user.output[0], rest)
    if user.op_type == "ReduceMean":
        return _not_spatial(graph, user) or absorbers(graph, shapes, user.output[0], rest)
    if user.op_type in _FLATTENING:
        return _through_flatten(graph, shapes, user, rest)
    if user.op_type == "Conv":
        return _not_convolvable(graph, user, rest) or [partial(_into_convolution, graph, user, rest)]
    if user.op_type in ("Gemm", "MatMul"):
        return _not_multipliable(graph, user, rest) or [partial(_into_matrix, graph, user, rest)]
    return f"{user.name} ({user.op_type}) behind it takes no shift"


def _not_commuting(node: Any, rest: Affine) -> str | None:
    given = attributes(node)
    if "MaxPool" in node.op_type and (rest.factor < 0).any():
        return f"{node.name} (MaxPool) lets no negative scale pass"
    if len(node.output) > 1 and node.output[1]:
        return f"{node.name} has a second output"
    if node.op_type == "AveragePool" and given.get("count_include_pad") and _padded(given):
        return f"{node.name} counts its zero padding"
    return None


def _not_spatial(graph: Graph, node: Any) -> str | None:
    """A mean over the pixels of each channel, as global average pooling is written too."""
    held = graph.weight(node, 1)
    axes = attributes(node).get("axes", []) if held is None else held.tolist()
    return None if axes and all(axis >= 2 for axis in axes) else f"{node.name} (ReduceMean) is not over pixels alone"


def _through_flatten(graph: Graph, shapes: Channels, node: Any, rest: Affine) -> list[Absorb] | str:
    """Only (n, channels, ...) -> (n, channels * ...) keeps each channel's features in a row."""
    inner, outer = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    sizes = [size for size in inner[1:] if size is not None]
    whole = len(sizes) == len(inner) - 1 and len(inner) >= 2
    if not whole or len(outer) != 2 or outer[1] != int(np.prod(sizes)) or inner[0] != outer[0]:
        return f"{node.name} ({node.op_type}) behind it mixes the channels, or its shape is not known"
    return absorbers(graph, shapes, node.output[0], rest.repeated(int(np.prod(sizes[1:], dtype=np.int64))))


def _padded(given: Mapping[str, Any]) -> bool:
    automatic = given.get("auto_pad", b"NOTSET")
    return any(given.get("pads", ())) or automatic in (b"SAME_UPPER", b"SAME_LOWER")


def _not_convolvable(graph: Graph, node: Any, rest: Affine) -> str | None:
    if graph.weight(node, 1) is None or (len(node.input) > 2 and node.input[2] and graph.weight(node, 2) is None):
        return f"the weights of {node.name} are not constant"
    if rest.shift.any() and _padded(attributes(node)):
        return f"{node.name} pads with zeros, which the shift would have to reach"
    return None


def _not_multipliable(graph: Graph, node: Any, rest: Affine) -> str | None:
    given, weight = attributes(node), graph.weight(node, 1)
    if weight is None or weight.ndim != 2 or (len(node.input) > 2 and node.input[2] and graph.weight(node, 2) is None):
        return f"the weights of {node.name} are not a constant matrix"
    if given.get("transA") or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        return f"{node.name} has an alpha or a beta, or transposes"
    if weight.shape[1 if given.get("transB") else 0] != len(rest.factor):
        return f"{node.name} does not multiply along the channels"
    return None


def _into_convolution(graph: Graph, node: Any, rest: Affine) -> None:
    weight = graph.weight(node, 1)
    assert weight is not None
    groups = attributes(node).get("group", 1)
    outputs, inputs = weight.shape[:2]
    exact = weight.astype(np.float64).reshape(groups, outputs // groups, inputs, -1)
    shift = np.einsum("goik,gi->go", exact, rest.shift.reshape(groups, inputs)).ravel()
    if not rest.is_shift:
        scaled = exact * rest.factor.reshape(groups, 1, inputs, 1)
        graph.set_weight(node, 1, scaled.reshape(weight.shape).astype(weight.dtype))
    _set_bias(graph, node, _bias(graph, node, outputs) + shift, weight.dtype)


def _into_matrix(graph: Graph, node: Any, rest: Affine) -> None:
    weight = graph.weight(node, 1)
    assert weight is not None
    transposed = bool(attributes(node).get("transB"))
    exact = weight.astype(np.float64).T if transposed else weight.astype(np.float64)
    shift, scaled = rest.shift @ exact, exact * rest.factor[:, None]
    if not rest.is_shift:
        graph.set_weight(node, 1, (scaled.T if transposed else scaled).astype(weight.dtype))
    if node.op_type == "Gemm":
        _set_bias(graph, node, _bias(graph, node, exact.shape[1]) + shift, weight.dtype)
    else:
        graph.insert_behind(node, "Add", graph.constant(f"{node.name}.shift", shift.astype(weight.dtype)))


def _bias(graph: Graph, node: Any, channels: int) -> Exact:
    held = graph.weight(node, 2)
    return np.zeros(channels) if held is None else np.broadcast_to(held.astype(np.float64).ravel(), (channels,))


def _set_bias(graph: Graph, node: Any, bias: Exact, kind: Any) -> None:
    graph.set_weight(node, 2, bias.astype(kind))
