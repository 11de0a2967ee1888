"""Hugging Face folder + calibration text -> what each tensor loses at each of llama.cpp's types."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages._calibration import INPUT
from stages._calibration_text import CalibrationText, required_text, windows
from stages._divergence import Probe, layer_of, replaced
from stages._ggml import size_of
from stages._gguf_types import TENSOR_TYPES_NEED_IMATRIX, TensorType
from stages._imatrix import FILE as IMATRIX_FILE
from stages._imatrix import KIND as IMATRIX
from stages._imatrix import Imatrix
from stages._language_model import LanguageModel
from stages._matrices import Matrices
from stages._mixture import KIND, Choice, PathPoint, Sensitivity, TensorSensitivity, path
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of


class MeasureSensitivity(Stage):
    """Round each group of tensors alone and take the KL divergence, for `quantize_gguf: {budget: ...}`."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "gguf"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT, IMATRIX})
    beside: ClassVar[bool] = True

    types: tuple[TensorType, ...] = Field(
        ("q3_k", "q4_0", "iq4_nl", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0"),
        min_length=1,
        description="what tensors may become; those whose blocks divide the tensor's rows are considered",
    )
    layers: int = Field(3, ge=1, description="neighbouring layers whose tensors of one part are measured together")
    windows: int = Field(4, ge=1, description="windows of calibration text that each group is measured on")
    stride: int = Field(4, ge=1, description="the KL divergence of a group is taken at every so many tokens")
    held_out: int = Field(4, ge=1, description="further windows that whole mixtures are measured on")
    window: int = Field(256, ge=16, description="tokens a window")
    points: int = Field(5, ge=2, description="mixtures between the smallest and the largest that are measured whole")

    def needs(self) -> frozenset[str]:
        """The calibration text, and an importance matrix where llama.cpp makes one of the types with one only."""
        return frozenset({INPUT, IMATRIX} if TENSOR_TYPES_NEED_IMATRIX & set(self.types) else {INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write sensitivity.json.

        Raises:
            Refused: no calibration text or too little of it, no importance matrix where a type needs one, a model that
            is quantized already, or that llama.cpp does not know.
        """
        text = required_text(context, name_of(self))
        subject = LanguageModel.load(model.path, context.threads)
        probed_on, held_out = self._windows(text, subject)
        imatrix = self._imatrix(context)
        matrices = Matrices(subject, imatrix, context.threads)
        tensors = self._probed(Probe(subject.model, probed_on, self.stride), matrices, context)
        made = Sensitivity(
            tokens=probed_on.size,
            held_out_tokens=held_out.size,
            imatrix_tokens=imatrix.tokens if imatrix else 0,
            tensors=tensors,
            points=self._points(Probe(subject.model, held_out), matrices, tensors, context),
        )
        made.save(context.out)
        return Produced(facts={"tensors": len(tensors), "tokens": made.tokens, "text": text.name})

    def _imatrix(self, context: Context) -> Imatrix | None:
        given = context.inputs.get(IMATRIX)
        if given is None and IMATRIX in self.needs():
            low = ", ".join(sorted(TENSOR_TYPES_NEED_IMATRIX & set(self.types)))
            raise Refused(f"{low}: needs an importance matrix", "put `collect_imatrix` before `measure_sensitivity`")
        return Imatrix.load(given.path / IMATRIX_FILE) if given else None

    def _windows(self, text: CalibrationText, subject: LanguageModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Windows for each tensor alone, and others, evenly spaced among them, for whole mixtures."""
        wanted = self.windows + self.held_out
        rows = windows(text, subject.tokenizer, wanted, self.window, name_of(self))
        if len(rows) < wanted:
            raise Refused(
                f"{text.name} fills {len(rows)} windows of {self.window} tokens, {wanted} are asked for",
                "give a longer text, or lower `windows`, `held_out` or `window`",
            )
        held_out = np.zeros(wanted, dtype=bool)
        held_out[np.linspace(0, wanted - 1, self.held_out).round().astype(int)] = True
        return rows[~held_out], rows[held_out]

    def _probed(self, probe: Probe, matrices: Matrices, context: Context) -> tuple[TensorSensitivity, ...]:
        found: list[TensorSensitivity] = []
        groups = self._groups(matrices)
        for number, names in enumerate(groups, 1):
            found += _sensitivities(names, self.types, probe, matrices)
            context.progress(number, len(groups), names[0])
        return tuple(found)

    def _groups(self, matrices: Matrices) -> list[list[str]]:
        """Tensors of one part in neighbouring layers, without those whose rows no type's blocks divide."""
        groups: dict[tuple[str, int], list[str]] = defaultdict(list)
        for name in matrices.names:
            if any(matrices.can_be(name, kind) for kind in self.types):
                groups[name.rpartition(f"blk.{layer_of(name)}.")[2], layer_of(name) // self.layers].append(name)
        if not groups:
            raise Refused("no tensor's rows can have one of the `types`", "allow types with blocks of 32: q4_0, q8_0")
        return list(groups.values())

    def _points(
        self, probe: Probe, matrices: Matrices, tensors: tuple[TensorSensitivity, ...], context: Context
    ) -> tuple[PathPoint, ...]:
        mixtures = list(path(tensors))
        places = np.unique(np.linspace(0, len(mixtures) - 1, self.points).round().astype(int)).tolist()
        current: dict[str, str] = {}
        weights: dict[Any, Any] = {}
        found = []
        for number, place in enumerate(places, 1):
            mixture = mixtures[place]
            for name, kind in mixture.types.items():
                if current.get(name) != kind:
                    weights[matrices.parameter(name)] = matrices.rounded(name, kind)
            current = dict(mixture.types)
            with replaced(weights):
                loss = probe.loss()
            found.append(
                PathPoint(
                    steps=place,
                    size_bytes=mixture.size_bytes,
                    kl_expected=mixture.kl,
                    kl=loss.kl,
                    perplexity_change=math.expm1(loss.nll_change),
                )
            )
            context.progress(number, len(places), "whole mixtures")
        return tuple(found)


def _finite(loss: float, name: str) -> float:
    """The loss; NaN would pass for no loss at all, and buy the tensor its fewest bits."""
    if not math.isfinite(loss):
        raise Refused(
            f"the loss with `{name}` rounded is {loss}",
            "the model is broken there: look at that layer's weights",
        )
    return loss


def _sensitivities(
    names: list[str], types: Sequence[TensorType], probe: Probe, matrices: Matrices
) -> Iterator[TensorSensitivity]:
    """KL divergence grows with the squared error, so one measurement serves every tensor and every type of a group."""
    kinds = {name: [kind for kind in types if matrices.can_be(name, kind)] for name in names}
    errors = {name: {kind: matrices.error(name, kind) for kind in kinds[name]} for name in names}
    smallest = {name: min(kinds[name], key=lambda kind: size_of(kind, 1 << 20)) for name in names}
    with replaced({matrices.parameter(name): matrices.rounded(name, smallest[name]) for name in names}):
        measured = max(0.0, _finite(probe.loss(min(map(layer_of, names))).kl, names[0]))
    whole = sum(errors[name][smallest[name]] for name in names)
    scale = measured / whole if whole else 0.0
    for name in names:
        elements = matrices.parameter(name).numel()
        choices = tuple(
            Choice(type=kind, size_bytes=size_of(kind, elements), kl=error * scale)
            for kind, error in errors[name].items()
        )
        yield TensorSensitivity(name=name, elements=elements, probe=smallest[name], choices=choices)
