"""Layers that are to stay float among quantized ones, kept so when ONNX Runtime loads the graph.

Its optimizer `WeightBiasQuantization` takes a Conv or Gemm with float weights between a DequantizeLinear of one scale
and a QuantizeLinear for one that somebody forgot, and quantizes its weights while loading, with one scale for all of
them: an excluded layer whose weights have an outlier then gave zeros in 1.32, with no warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stages._onnx_graph import Graph, attributes

_TAKEN = ("Conv", "ConvTranspose", "Gemm")


def kept_float(model: Any) -> Any:
    """Give each float layer its input with a scale for each channel, all the same: nothing changes but the pattern.

    A layer of one input channel has no such form; it reads the input as it was before it was quantized.
    """
    graph = Graph(model)
    for layer, source in list(_at_risk(graph)):
        channels = _channels(graph, layer)
        if channels == 1:
            layer.input[0] = graph.producer[source.input[0]].input[0]
        else:
            layer.input[0] = _by_channel(graph, layer, source, channels)
        graph.refresh()
        if not graph.consumers.get(source.output[0]) and source.output[0] not in graph.kept:
            graph.proto.node.remove(source)
            graph.refresh()
    return model


def _at_risk(graph: Graph) -> Iterator[tuple[Any, Any]]:
    """Layers with float weights, each with the DequantizeLinear that feeds it."""
    for node in graph.proto.node:
        source = graph.producer.get(node.input[0]) if node.op_type in _TAKEN else None
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] not in graph.producer:
            continue
        weight = graph.weight(node, 1)
        if weight is not None and weight.dtype == np.float32:
            yield node, source


def _channels(graph: Graph, layer: Any) -> int:
    weight, told = graph.weight(layer, 1), attributes(layer)
    assert weight is not None
    if layer.op_type == "Conv":
        return int(weight.shape[1] * told.get("group", 1))
    return int(weight.shape[1 if layer.op_type == "Gemm" and told.get("transB") else 0])


def _by_channel(graph: Graph, layer: Any, source: Any, channels: int) -> str:
    """A DequantizeLinear of the layer's own; the name of its output."""
    import onnx

    scale, zero_point = graph.weight(source, 1), graph.weight(source, 2)
    assert scale is not None
    assert zero_point is not None
    inputs = [
        source.input[0],
        graph.constant(f"{layer.name}.scales", np.repeat(scale, channels)),
        graph.constant(f"{layer.name}.zero_points", np.repeat(zero_point, channels)),
    ]
    output = f"{layer.name}.float_input"
    axis = 0 if attributes(layer).get("transA") else 1
    made = onnx.helper.make_node("DequantizeLinear", inputs, [output], f"{layer.name}.DequantizeLinear", axis=axis)
    graph.proto.node.insert(list(graph.proto.node).index(layer), made)
    return output
