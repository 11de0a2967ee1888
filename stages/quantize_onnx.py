"""ONNX -> fewer bits: static INT8 by calibration, dynamic INT8, float16, or 4-bit matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import INPUT, required
from stages._onnx_calibrate import Calibration, Method, ranges
from stages._onnx_file import graph_facts, read, refuse_too_large, write
from stages._onnx_float16 import halved
from stages._onnx_graph import Graph
from stages._onnx_quantize import counted, dynamic, excluded, int4, prepared, static
from stages._onnx_session import opened, options
from stages.base import Artifact, Context, Produced, Refused, Stage

_INHERITED = ("licence",)
_PRECISION = {"static": "int8", "dynamic": "int8", "float16": "float16", "int4": "int4"}
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


class QuantizeOnnx(Stage):
    """Quantize an ONNX model with ONNX Runtime's quantizers: uint8 activations, int8 weights, QDQ."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    mode: Literal["static", "dynamic", "float16", "int4"] = Field(
        "static", description="static: ranges by calibration; dynamic: by each input; int4: weights of MatMul alone"
    )
    method: Method = Field("minmax", description="how a range follows from the calibration's values; static only")
    percentile: float = Field(99.99, gt=50, le=100, description="of absolute values, for `method: percentile`")
    per_channel: bool = Field(True, description="a scale for each output channel of a weight; 15% without it, not 80%")
    symmetric_activations: bool = Field(False, description="int8 activations around 0, as some accelerators ask for")
    exclude: tuple[str, ...] = Field((), description="names of nodes, or operators, that stay float")
    examples: int = Field(200, ge=1, description="calibration examples used, evenly spaced; static only")
    batch: int = Field(16, ge=1, description="calibration examples in memory at a time")
    block: int = Field(32, ge=16, description="weights that share a scale, for `mode: int4`; a power of 2")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx.

        Raises:
            Refused: a damaged model, quantized already, too few or unfit calibration examples, or an unknown exclude.
        """
        source = read(model.path)
        refuse_too_large(source, "quantize_onnx")
        _refuse_quantized(source)
        context.progress(0, 3, "preparing")
        graph = Graph(source)
        made, facts = self._quantized(graph, context)
        file = write(made, context.out)
        opened(file, options(context.threads))
        inherited = {key: model.facts[key] for key in _INHERITED if key in model.facts}
        told: dict[str, JsonValue] = {"mode": self.mode}
        if self.mode == "static":
            told |= {"method": self.method, "calibration_examples": self.examples}
        context.progress(3, 3, "quantized")
        return Produced(facts={**inherited, **graph_facts(made, _PRECISION[self.mode]), **told, **facts})

    def _quantized(self, graph: Graph, context: Context) -> tuple[Any, dict[str, JsonValue]]:
        if self.mode == "float16":
            excluded(graph.model, self.exclude)
            return halved(graph.model, self.exclude), {}
        ready = prepared(graph, context.scratch)
        float_nodes = excluded(read(ready.parent), self.exclude)
        if self.mode == "int4":
            made = int4(ready, float_nodes, self.block)
        elif self.mode == "dynamic":
            made = dynamic(ready, float_nodes, self.per_channel)
        else:
            made = static(
                ready, self._ranges(ready, context), float_nodes, self.per_channel, self.symmetric_activations
            )
        counts = counted(made)
        _refuse_nothing(counts, self.mode)
        return made, counts

    def _ranges(self, ready: Path, context: Context) -> Any:
        examples = required(context, "quantize_onnx")
        if len(examples) < self.examples:
            raise Refused(
                f"{self.examples:,} calibration examples were asked for, there are {len(examples):,}",
                f"set `examples: {len(examples)}`, or hold more out",
            )
        calibration = Calibration(
            method=self.method,
            percentile=self.percentile,
            examples=self.examples,
            batch=self.batch,
            symmetric=self.symmetric_activations,
        )
        return ranges(ready, examples, calibration, context)


def _refuse_quantized(model: Any) -> None:
    quantized = [node.name for node in model.graph.node if node.op_type in _QUANTIZED]
    if quantized:
        raise Refused(
            f"the model is quantized already: {len(quantized)} nodes, the first is `{quantized[0]}`",
            "start from the float model",
        )


def _refuse_nothing(counts: dict[str, JsonValue], mode: str) -> None:
    if not counts["quantized_nodes"]:
        raise Refused(
            f"`mode: {mode}` finds nothing to quantize in this model", "int4 quantizes MatMul, not Conv or Gemm"
        )
