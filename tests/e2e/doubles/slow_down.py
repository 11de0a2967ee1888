"""ONNX -> the same function with work that does nothing: what a bad optimization pass does to speed."""

from __future__ import annotations

from typing import ClassVar

from stages._onnx_file import graph_facts, read, write
from stages.base import Artifact, Context, Produced, Stage

_TIMES = 500


class SlowDown(Stage):
    """Multiply the output 500 times with the identity."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx."""
        import numpy as np
        import onnx

        made = read(model.path)
        output, width = made.graph.output[0].name, made.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        made.graph.node[-1].output[0] = name = "idle.0"
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(width, dtype=np.float32), "identity"))
        for number in range(1, _TIMES + 1):
            given, name = name, output if number == _TIMES else f"idle.{number}"
            made.graph.node.append(onnx.helper.make_node("MatMul", [given, "identity"], [name], f"idle_{number}"))
        write(made, context.out)
        return Produced(facts=graph_facts(made, "float32"))
