"""ONNX -> two channels of a layer swapped, and nobody told the layer that reads them: what a wrong rewrite does."""

from __future__ import annotations

from typing import ClassVar

from stages._onnx_file import graph_facts, read, write
from stages._onnx_graph import Graph
from stages.base import Artifact, Context, Produced, Stage


class SwapChannels(Stage):
    """Swap the two output channels of the first Gemm that matter most to its reader."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx."""
        import numpy as np

        graph = Graph(read(model.path))
        first, reader = [node for node in graph.proto.node if node.op_type == "Gemm"][:2]
        weight, read_by = graph.weight(first, 1), graph.weight(reader, 1)
        assert weight is not None
        assert read_by is not None
        one, other = np.abs(read_by).sum(axis=1).argsort()[-2:]
        order = np.arange(weight.shape[1])
        order[[one, other]] = order[[other, one]]
        graph.set_weight(first, 1, weight[:, order])
        write(graph.model, context.out)
        return Produced(facts=graph_facts(graph.model, "float32"))
