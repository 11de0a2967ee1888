"""ONNX -> ONNX as TensorRT wants it: symmetric INT8 in QDQ pairs, or float16. A CPU runs that graph, slowly."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import INPUT, inputs, required_inputs
from stages._onnx_calibrate import Calibration, Method, evenly, ranges
from stages._onnx_file import find, graph_facts, read, refuse_too_large, write
from stages._onnx_float16 import halved
from stages._onnx_graph import Graph
from stages._onnx_parity import compared, runtime
from stages._onnx_quantize import prepared
from stages._tensorrt_qdq import QUANTIZERS, quantized, refuse_small_scales, selected, with_opset
from stages.base import Artifact, Context, Produced, Refused, Stage

_INHERITED = ("licence",)
_OPSET = {"float16": 19, "float32": 13}  # the first with scales in float16; the first with scales per channel


class QuantizeTensorrt(Stage):
    """Quantize what convolutions and matrix products take; the rest computes in float16 or float32."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "tensorrt"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    type: Literal["int8", "float16"] = Field("int8", description="of weights and activations")
    float_type: Literal["float16", "float32"] = Field(
        "float16", description="of what is not INT8; compute capability 7.5 multiplies no float32 matrices"
    )
    method: Method = Field("percentile", description="how a range follows from the calibration's values; int8 only")
    percentile: float = Field(99.99, gt=50, le=100, description="of absolute values, for `method: percentile`")
    per_channel: bool = Field(True, description="a scale for each output channel of a weight")
    exclude: tuple[str, ...] = Field((), description="names of nodes, or operators, that stay float (int8) or float32")
    examples: int = Field(200, ge=1, description="calibration examples used, evenly spaced; int8 only")
    batch: int = Field(16, ge=1, description="calibration examples in memory at a time")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx; its inputs and outputs stay float32.

        Raises:
            Refused: a damaged model, quantized already, too few calibration examples, an unknown exclude, or values
                that float16 does not hold.
        """
        source = read(model.path)
        refuse_too_large(source, "quantize_tensorrt")
        _refuse_quantized(source)
        halve = "float16" in (self.type, self.float_type)
        graph = Graph(with_opset(source, _OPSET["float16" if halve else "float32"]))
        made, facts = self._int8(graph, context) if self.type == "int8" else (graph.model, {})
        if halve:
            refuse_small_scales(made)
            made = halved(made, self.exclude if self.type == "float16" else ())
        write(made, context.out)
        inherited = {key: model.facts[key] for key in _INHERITED if key in model.facts}
        described = {
            **graph_facts(made, self.type),
            "float_type": self.float_type if self.type == "int8" else self.type,
        }
        return Produced(facts={**inherited, **described, **facts, **self._parity(model, context)})

    def _int8(self, graph: Graph, context: Context) -> tuple[Any, dict[str, JsonValue]]:
        given, ready = required_inputs(context, "quantize_tensorrt"), prepared(graph, context.scratch)
        if len(given) < self.examples:
            raise Refused(
                f"{self.examples:,} calibration examples were asked for, there are {len(given):,}",
                f"set `examples: {len(given)}`, or hold more out",
            )
        nodes = selected(read(ready.parent), self.exclude)
        found = ranges(ready, given, evenly(len(given), self.examples), self._calibration(), context)
        facts: dict[str, JsonValue] = {"calibration_examples": self.examples, "method": self.method}
        return quantized(ready, found, nodes, self.per_channel), {**facts, "quantized_nodes": len(nodes)}

    def _calibration(self) -> Calibration:
        return Calibration(method=self.method, percentile=self.percentile, batch=self.batch, symmetric=True)

    def _parity(self, model: Artifact, context: Context) -> dict[str, JsonValue]:
        """How far the outputs moved on real inputs, where there are some: ONNX Runtime, on the CPU."""
        given = inputs(context)
        if given is None:
            return {}
        before, after = (runtime(find(folder), context.threads) for folder in (model.path, context.out))
        parity = compared(before, after, given, before.names)
        if parity.relative == float("inf"):
            raise Refused(
                f"{self.type} gives outputs that are no numbers: float16 ends at 65,504",
                "name the nodes in `exclude`, or set `float_type: float32`",
            )
        return {"parity": parity.facts()}


def _refuse_quantized(model: Any) -> None:
    quantized_already = [node.name for node in model.graph.node if node.op_type in QUANTIZERS]
    if quantized_already:
        raise Refused(
            f"the model is quantized already: {len(quantized_already)} nodes, the first is `{quantized_already[0]}`",
            "start from the float model: a graph quantized for a CPU does not suit TensorRT",
        )
