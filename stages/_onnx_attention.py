"""Self-attention as exporters write it, a dozen operators a layer, put into ONNX Runtime's one `Attention`.

Query, key and value become one matrix: an encoder quantized dynamically then rounds its input once a layer, not three
times. ONNX Runtime's own transformers optimizer finds none of it in a graph of torch's dynamo exporter (1.32.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages._onnx_graph import Array, Graph, attributes
from stages._tokens import MASK

DOMAIN, OPERATOR = "com.microsoft", "Attention"
_HEADS_OUT, _KEY_TURNED, _LAST_TWO = [0, 2, 1, 3], [0, 2, 3, 1], [0, 1, 3, 2]


@dataclass(frozen=True)
class _Projection:
    """A Linear layer ahead of attention, cut into heads: `source` @ weight + bias."""

    source: str
    weight: Array
    bias: Array
    head: int


@dataclass(frozen=True)
class _Layer:
    """What one `Attention` takes the place of; `output` is the tensor that it makes."""

    query: _Projection
    key: _Projection
    value: _Projection
    scale: float
    output: str

    @property
    def source(self) -> str | None:
        """What all three are projections of, or None: then it is no self-attention."""
        sources = {self.query.source, self.key.source, self.value.source}
        shapes = {each.weight.shape for each in (self.query, self.key, self.value)}
        return sources.pop() if len(sources) == 1 and len(shapes) == 1 else None


def fuse_attention(graph: Graph) -> int:
    """Replace, in place, every self-attention over the graph's attention mask; how many there were.

    Whether the result says the same is for the caller to see on real inputs: how the mask was added is not looked at.
    """
    if MASK not in {value.name for value in graph.proto.input}:
        return 0
    found = [layer for node in graph.proto.node if node.op_type == "Softmax" if (layer := _layer(graph, node))]
    if not found:
        return 0
    mask = _mask(graph)
    for number, layer in enumerate(found):
        _replace(graph, layer, mask, number)
    if DOMAIN not in {entry.domain for entry in graph.model.opset_import}:
        graph.model.opset_import.add(domain=DOMAIN, version=1)
    _forget_unused(graph)
    return len(found)


def _layer(graph: Graph, softmax: Any) -> _Layer | None:
    """The layer around a Softmax over scores; None where anything stands otherwise than in an encoder."""
    weighted = _only_user(graph, softmax.output[0], "MatMul")
    masked = _maker(graph, softmax.input[0], "Add")
    if weighted is None or masked is None:
        return None
    scores, scale = _scaled(graph, masked.input[0])
    turned = _only_user(graph, weighted.output[0], "Transpose")
    merged = _only_user(graph, turned.output[0], "Reshape") if turned else None
    if scores is None or turned is None or merged is None or attributes(turned)["perm"] != _HEADS_OUT:
        return None
    query = _projection(graph, scores.input[0], _HEADS_OUT)
    key = _key(graph, scores.input[1])
    value = _projection(graph, weighted.input[1], _HEADS_OUT)
    if query is None or key is None or value is None:
        return None
    layer = _Layer(query, key, value, scale, merged.output[0])
    return layer if layer.source else None


def _scaled(graph: Graph, tensor: str) -> tuple[Any, float]:
    """The MatMul of the scores and what they are multiplied by."""
    node = graph.producer.get(tensor)
    if node is not None and node.op_type in ("Mul", "Div") and (factor := graph.weight(node, 1)) is not None:
        by = float(factor.reshape(-1)[0])
        return _maker(graph, node.input[0], "MatMul"), by if node.op_type == "Mul" else 1 / by
    return _maker(graph, tensor, "MatMul"), 1.0


def _key(graph: Graph, tensor: str) -> _Projection | None:
    turned = _projection(graph, tensor, _KEY_TURNED)
    if turned is not None:
        return turned
    node = _maker(graph, tensor, "Transpose")
    apart = node is not None and attributes(node)["perm"] == _LAST_TWO
    return _projection(graph, node.input[0], _HEADS_OUT) if apart else None


def _projection(graph: Graph, tensor: str, perm: list[int]) -> _Projection | None:
    transpose = _maker(graph, tensor, "Transpose")
    if transpose is None or [*attributes(transpose)["perm"]] != perm:
        return None
    cut = _maker(graph, transpose.input[0], "Reshape")
    head = _head(graph, cut) if cut is not None else None
    if cut is None or head is None:
        return None
    added = _maker(graph, cut.input[0], "Add")
    product = _maker(graph, added.input[0] if added else cut.input[0], "MatMul")
    weight = graph.weight(product, 1) if product is not None else None
    if weight is None:
        return None
    bias = graph.weight(added, 1) if added else np.zeros(weight.shape[1], weight.dtype)  # some layers have none
    return None if bias is None else _Projection(product.input[0], weight, bias, head)


def _head(graph: Graph, cut: Any) -> int | None:
    """Values a head: the last of the sizes that a Reshape is given, which may be put together from parts."""
    import onnx

    sizes = graph.weight(cut, 1)
    if sizes is None and (parts := _maker(graph, cut.input[1], "Concat")) is not None:
        last = graph.weights.get(parts.input[-1])
        sizes = onnx.numpy_helper.to_array(last) if last is not None else None
    return int(sizes.reshape(-1)[-1]) if sizes is not None and sizes.size and int(sizes.reshape(-1)[-1]) > 0 else None


def _replace(graph: Graph, layer: _Layer, mask: str, number: int) -> None:
    import onnx

    three = (layer.query, layer.key, layer.value)
    weight = graph.constant(f"attention_{number}.weight", np.concatenate([each.weight for each in three], axis=1))
    bias = graph.constant(f"attention_{number}.bias", np.concatenate([each.bias for each in three]))
    made = onnx.helper.make_node(
        OPERATOR,
        [str(layer.source), weight, bias, mask],
        [layer.output],
        f"attention_{number}",
        domain=DOMAIN,
        num_heads=layer.query.weight.shape[1] // layer.query.head,
        scale=layer.scale,
        mask_filter_value=float(np.finfo(np.float32).min),
    )
    graph.replace(graph.producer[layer.output], made)


def _mask(graph: Graph) -> str:
    """The attention mask in the 32 bits that the operator takes."""
    import onnx

    made = onnx.helper.make_node("Cast", [MASK], [f"{MASK}_int32"], f"{MASK}.Cast", to=onnx.TensorProto.INT32)
    graph.proto.node.insert(0, made)
    graph.refresh()
    return str(made.output[0])


def _maker(graph: Graph, tensor: str, operator: str) -> Any:
    node = graph.producer.get(tensor)
    return node if node is not None and node.op_type == operator else None


def _only_user(graph: Graph, tensor: str, operator: str) -> Any:
    users = graph.consumers.get(tensor, [])
    return users[0] if len(users) == 1 and users[0].op_type == operator and tensor not in graph.kept else None


def _forget_unused(graph: Graph) -> None:
    """Remove nodes whose outputs nobody takes any more."""
    while unused := [
        node
        for node in graph.proto.node
        if not any(name in graph.kept or graph.consumers.get(name) for name in node.output)
    ]:
        for node in unused:
            graph.proto.node.remove(node)
        graph.refresh()
