"""NNCF's ways to make an OpenVINO model smaller, each with what it did to the answers."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages._inputs import Feed, Inputs
from stages._openvino_calibration import input_names
from stages._openvino_runtime import toolkit
from stages.base import Frozen, Refused

Preset = Literal["performance", "mixed"]
Measure = Literal["top1_agreement", "accuracy_top1", "cosine_agreement"]
Array = NDArray[np.float32]
Batches = Callable[[int], Any]


class Manner(Frozen):
    """How activations and weights are quantized, and what is left in float."""

    preset: Preset
    fast_bias_correction: bool
    transformer: bool
    reduce_range: bool
    exclude: tuple[str, ...]

    def options(self, model: Any) -> dict[str, Any]:
        """The same in NNCF's terms."""
        package = nncf()
        return {
            "preset": package.QuantizationPreset(self.preset),
            "fast_bias_correction": self.fast_bias_correction,
            "model_type": package.ModelType.TRANSFORMER if self.transformer else None,
            "ignored_scope": ignored(model, self.exclude),
        }

    def advanced(self) -> Any:
        """Half of the weights' range where asked for; NNCF's default keeps to it in the first layer alone."""
        package = nncf()
        fix = package.OverflowFix.ENABLE if self.reduce_range else package.OverflowFix.FIRST_LAYER
        return package.AdvancedQuantizationParameters(overflow_fix=fix)


@dataclass(frozen=True)
class Validation:
    """Held-out calibration examples, and what counts as right of each by row.

    That is a class, of labels or of the float model's answers, or its embedding, shape (width,).
    """

    examples: Inputs
    names: Sequence[str]
    rows: Sequence[int]
    right: Mapping[int, int | Array]
    max_drop: float

    def batch(self, row: int) -> Feed:
        """One example as the model takes it."""
        return self.examples.feed(np.array([row]), self.names)

    def __call__(self, compiled: Any, rows: Iterable[int]) -> tuple[float, list[list[NDArray[np.float32]]]]:
        """The mean of how right every output is, and the outputs: NNCF ranks operators by how far these move."""
        asked = list(rows)
        outputs = [np.array(compiled(self.batch(row))[0]) for row in asked]
        rights = [_right(output, self.right[row]) for row, output in zip(asked, outputs, strict=True)]
        return float(np.mean(rights)), [[each] for each in outputs]


def nncf() -> Any:
    """The package nncf, with warnings alone; `toolkit` first, so that it reports its use to nobody."""
    toolkit()
    import nncf as package

    package.set_log_level(logging.WARNING)
    return package


def quantized(model: Any, rows: Sequence[int], batch: Batches, manner: Manner) -> Any:
    """The model with INT8 weights and activations, whose ranges come from the rows."""
    data = nncf().Dataset(list(rows), batch)
    return nncf().quantize(
        model, data, subset_size=len(rows), advanced_parameters=manner.advanced(), **manner.options(model)
    )


def quantized_within(model: Any, rows: Sequence[int], batch: Batches, manner: Manner, validation: Validation) -> Any:
    """The same with the operators that cost most back in float, until the drop is within the limit."""
    return nncf().quantize_with_accuracy_control(
        model,
        nncf().Dataset(list(rows), batch),
        nncf().Dataset(list(validation.rows), validation.batch),
        validation,
        max_drop=validation.max_drop,
        subset_size=len(rows),
        advanced_quantization_parameters=manner.advanced(),
        **manner.options(model),
    )


def with_narrow_weights(model: Any, bits: int, group_size: int, exclude: tuple[str, ...]) -> Any:
    """The model with weights in 8 bits, a scale a channel, or in 4, a scale a group; activations stay in float.

    Of 4 bits NNCF keeps the embedding, and the last layer, in 8. Dimensions that groups do not divide stay in 8, too.
    """
    modes, scope = nncf().CompressWeightsMode, ignored(model, exclude)
    if bits == 8:
        return nncf().compress_weights(model, mode=modes.INT8_ASYM, ignored_scope=scope)
    return nncf().compress_weights(model, mode=modes.INT4_SYM, group_size=group_size, ignored_scope=scope)


def ignored(model: Any, exclude: tuple[str, ...]) -> Any:
    """NNCF's scope for names of nodes and types of operators, None for none.

    Raises:
        Refused: the model has no such node or operator.
    """
    if not exclude:
        return None
    types = {each.get_type_name() for each in model.get_ops()}
    names = {each.get_friendly_name() for each in model.get_ops()}
    for unknown in [each for each in exclude if each not in types | names]:
        near = difflib.get_close_matches(unknown, sorted(types | names), 3)
        raise Refused(
            f"`exclude`: the model has no node and no operator `{unknown}`",
            f"did you mean {', '.join(near)}?" if near else f"its operators are {', '.join(sorted(types))}",
        )
    return nncf().IgnoredScope(
        names=[each for each in exclude if each not in types], types=[each for each in exclude if each in types]
    )


def share_right(model: Any, validation: Validation, threads: int) -> float:
    """The share of right answers of a model that is not compiled yet, in float32 outside of what is INT8."""
    return validation(_compiled(model, threads), validation.rows)[0]


def answers(model: Any, examples: Inputs, rows: Sequence[int], threads: int) -> dict[int, Array]:
    """The model's first output by row, shape (values,)."""
    compiled, names = _compiled(model, threads), input_names(model)
    outputs = {row: np.array(compiled(examples.feed(np.array([row]), names))[0]) for row in rows}
    return {row: output.reshape(-1) for row, output in outputs.items()}


def _compiled(model: Any, threads: int) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return toolkit().Core().compile_model(model, "CPU", settings)


def _right(output: Array, right: int | Array) -> float:
    """1 or 0 for a class, the cosine for an embedding."""
    given = output.reshape(-1)
    if isinstance(right, int):
        return float(int(given.argmax()) == right)
    lengths = float(np.linalg.norm(given) * np.linalg.norm(right))
    return float(given @ right) / lengths if lengths else 0.0
