"""ONNX or OpenVINO -> smaller OpenVINO: INT8 or narrow weights by NNCF, the drop within a limit where one is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import required
from stages._carried import carried
from stages._inputs import Inputs
from stages._openvino_calibration import chosen, input_names, reader, refuse_unfit
from stages._openvino_compress import (
    Array,
    Manner,
    Measure,
    Preset,
    Validation,
    answers,
    quantized,
    quantized_within,
    share_right,
    with_narrow_weights,
)
from stages._openvino_model import KIND, float_layers, model_facts, precision, quantized_operators, read, write
from stages._tokens import Tokens
from stages.base import Artifact, Context, Produced, Refused, Stage


class CompressOpenvino(Stage):
    """Quantize with NNCF, on the calibration examples."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx", "openvino"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "openvino"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    mode: Literal["int8", "int8_weights", "int4_weights"] = Field(
        "int8", description="activations and weights, or weights alone, which needs no calibration"
    )
    group_size: int = Field(64, ge=8, description="weights that share a scale, for `int4_weights`")
    preset: Preset = Field("mixed", description="`mixed` gives activations a zero point; `performance` does not")
    examples: int = Field(300, ge=1, description="calibration examples that the ranges come from")
    fast_bias_correction: bool = Field(True, description="False corrects every bias on all examples: slower, closer")
    transformer: bool = Field(False, description="leave in float what attention does not bear at INT8")
    reduce_range: bool = Field(
        False,
        description="weights in 7 bits: for x86 CPUs without VNNI, whose 16-bit sums of products saturate with 8",
    )
    exclude: tuple[str, ...] = Field((), description="nodes or operators of OpenVINO's graph that stay in float")
    max_drop: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="the most that `measure` may fall; what costs most returns to float until it holds",
    )
    measure: Measure = Field(
        "top1_agreement",
        description="with `max_drop`: what falls; agreement sees more than accuracy, cosine_agreement is of embeddings",
    )
    held_out: int = Field(100, ge=1, description="with `max_drop`: calibration examples kept apart to measure it on")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write openvino.xml and openvino.bin.

        Raises:
            Refused: no, too few or unfit calibration examples, a model that is quantized already or cannot be read.
        """
        source = read(model)
        _refuse_quantized(precision(source))
        made, measured = self._int8(source, context) if self.mode == "int8" else self._weights(source)
        write(made, context.out)
        carried(model, context.out)
        written = read(Artifact(kind=KIND, path=context.out, digest=model.digest))
        int8, floats = quantized_operators(written)
        kept: dict[str, JsonValue] = {
            "quantized_operators": {**int8},
            "float_operators": {**floats},
            "float_layers": [*float_layers(written)],
            **({"reduce_range": True} if self.reduce_range else {}),
        }
        return Produced(facts={**model.facts, **model_facts(written), **kept, **measured})

    def _weights(self, source: Any) -> tuple[Any, dict[str, JsonValue]]:
        four = self.mode == "int4_weights"
        made = with_narrow_weights(source, 4 if four else 8, self.group_size, self.exclude)
        return made, {"group_size": self.group_size} if four else {}

    def _int8(self, source: Any, context: Context) -> tuple[Any, dict[str, JsonValue]]:
        held_out = self.held_out if self.max_drop else 0
        examples, rows, kept = chosen(context, "compress_openvino", self.examples, held_out)
        refuse_unfit(source, examples)
        manner = Manner(**self.model_dump(include=set(Manner.model_fields)))
        names = input_names(source)
        batch = reader(examples, names, len(rows), context)
        if self.max_drop is None:
            return quantized(source, rows.tolist(), batch, manner), {"calibration_examples": len(rows)}
        right = self._right(source, examples, kept.tolist(), context)
        validation = Validation(examples, names, kept.tolist(), right, self.max_drop)
        before = share_right(source, validation, context.threads)
        made = quantized_within(source, rows.tolist(), batch, manner, validation)
        drop = before - share_right(made, validation, context.threads)
        return made, {"calibration_examples": len(rows), "held_out": len(kept), f"{self.measure}_drop": round(drop, 6)}

    def _right(self, source: Any, examples: Inputs, rows: list[int], context: Context) -> Mapping[int, int | Array]:
        """What `measure` counts as right of each row that is held out."""
        if isinstance(examples, Tokens) != (self.measure == "cosine_agreement"):
            raise Refused(
                f"`measure: {self.measure}` does not suit {examples.what}",
                "cosine_agreement is of embeddings, the other two are of classes",
            )
        if self.measure == "accuracy_top1":
            labels = required(context, "compress_openvino").labels
            return {row: int(labels[row]) for row in rows}
        of_float = answers(source, examples, rows, context.threads)
        return of_float if isinstance(examples, Tokens) else {row: int(each.argmax()) for row, each in of_float.items()}


def _refuse_quantized(found: str) -> None:
    if found in ("int8", "int8_weights", "int4_weights"):
        raise Refused(f"the model is quantized already: {found}", "take the float model: leave the step before out")
