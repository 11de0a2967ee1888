"""ONNX -> fewer bits: static INT8 by calibration, dynamic INT8, float16, or 4-bit matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from stages._calibration import INPUT, required_inputs
from stages._carried import carried
from stages._onnx_back_off import BackOff
from stages._onnx_calibrate import Calibration
from stages._onnx_file import graph_facts, read, refuse_too_large, write
from stages._onnx_float16 import halved
from stages._onnx_graph import Graph
from stages._onnx_quantize import counted, dynamic, excluded, int4, prepared
from stages._onnx_session import opened, options
from stages._onnx_static import Made, Manner, quantized
from stages.base import Artifact, Context, Produced, Refused, Stage

_PRECISION = {"static": "int8", "dynamic": "int8", "float16": "float16", "int4": "int4"}
_AGREEMENTS = ("top1_agreement", "cosine_agreement")
_AUTO_PERCENTILES = (99.99, 99.999)
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
    method: Literal["minmax", "entropy", "percentile", "auto"] = Field(
        "minmax",
        description="how a range follows from the calibration's values; static only. `auto` takes the best of minmax, "
        "percentile 99.99 and 99.999, and entropy, judged on calibration examples that calibrated nothing",
    )
    percentile: float = Field(99.99, gt=50, le=100, description="of absolute values, for `method: percentile`")
    per_channel: bool = Field(True, description="a scale for each output channel of a weight; 15% without it, not 80%")
    reduce_range: bool = Field(
        False,
        description="weights in 7 bits: for x86 CPUs without VNNI, whose 16-bit sums of products saturate with 8",
    )
    symmetric_activations: bool = Field(False, description="int8 activations around 0, as some accelerators ask for")
    exclude: tuple[str, ...] = Field((), description="names of nodes, or operators, that stay float")
    examples: int = Field(200, ge=1, description="calibration examples used, evenly spaced; static only")
    judging: float = Field(
        0.5, gt=0, lt=1, description="share of the examples that calibrate nothing, and judge `auto` and `back_off`"
    )
    back_off: BackOff | None = Field(
        None, description="return the layers that quantization hurts most to float until a limit holds; static only"
    )
    batch: int = Field(16, ge=1, description="calibration examples in memory at a time")
    block: int = Field(32, ge=16, description="weights that share a scale, for `mode: int4`; a power of 2")

    @model_validator(mode="after")
    def _backs_off_where_it_judges(self) -> QuantizeOnnx:
        if self.back_off is not None and self.mode != "static":
            raise ValueError(f"`back_off` needs `mode: static`, not {self.mode}: it judges on calibration examples")
        return self

    def under(self, least: Mapping[str, float]) -> QuantizeOnnx:
        """The back-off aims at what the budget on agreement asks for, where the config says nothing else."""
        asked = next((least[name] for name in _AGREEMENTS if name in least), None)
        if self.back_off is None or self.back_off.min_agreement is not None or asked is None:
            return self
        aimed = self.back_off.model_copy(update={"min_agreement": asked})
        return self.model_copy(update={"back_off": aimed})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx.

        Raises:
            Refused: a damaged model, quantized already, too few or unfit calibration examples, or an unknown exclude.
        """
        source = read(model.path)
        refuse_too_large(source, "quantize_onnx")
        _refuse_quantized(source)
        if self.back_off is not None:
            self.back_off.refuse_without_limit()
        context.progress(0, 3, "preparing")
        graph = Graph(source)
        made = self._made(graph, context)
        opened(write(made.model, context.out), options(context.threads))
        context.progress(3, 3, "quantized")
        facts = {**graph_facts(made.model, _PRECISION[self.mode]), **self._told(), **made.facts}
        return Produced(facts={**carried(model, context.out), **facts}, notes=made.notes, tables=made.tables)

    def _told(self) -> dict[str, JsonValue]:
        static = {"method": self.method, "calibration_examples": self.examples} if self.mode == "static" else {}
        narrow: dict[str, JsonValue] = {"reduce_range": True} if self.reduce_range else {}
        return {"mode": self.mode, **static, **narrow}

    def _made(self, graph: Graph, context: Context) -> Made:
        if self.mode == "float16":
            excluded(graph.model, self.exclude)
            return Made(halved(graph.model, self.exclude))
        ready = prepared(graph, context.scratch)
        float_nodes = excluded(read(ready.parent), self.exclude)
        if self.mode == "int4":
            made = Made(int4(ready, float_nodes, self.block))
        elif self.mode == "dynamic":
            made = Made(dynamic(ready, float_nodes, self.per_channel, self.reduce_range))
        else:
            examples = required_inputs(context, "quantize_onnx")
            self._refuse_too_few(len(examples))
            made = quantized(ready, float_nodes, self._manner(), examples, context)
        counts = counted(made.model)
        _refuse_nothing(counts, self.mode)
        made.facts |= counts
        return made

    def _refuse_too_few(self, there: int) -> None:
        if there < self.examples:
            raise Refused(
                f"{self.examples:,} calibration examples were asked for, there are {there:,}",
                f"set `examples: {there}`, or hold more out",
            )

    def _manner(self) -> Manner:
        return Manner(
            calibrations=self._calibrations(),
            per_channel=self.per_channel,
            symmetric=self.symmetric_activations,
            reduce_range=self.reduce_range,
            examples=self.examples,
            judging=self.judging,
            back_off=self.back_off,
        )

    def _calibrations(self) -> tuple[Calibration, ...]:
        plain = Calibration(
            method="minmax" if self.method == "auto" else self.method,
            percentile=self.percentile,
            batch=self.batch,
            symmetric=self.symmetric_activations,
        )
        if self.method != "auto":
            return (plain,)
        percentiles = [
            plain.model_copy(update={"method": "percentile", "percentile": each}) for each in _AUTO_PERCENTILES
        ]
        return (plain, *percentiles, plain.model_copy(update={"method": "entropy"}))


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
