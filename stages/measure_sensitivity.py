"""Hugging Face folder + calibration text -> what each tensor loses at each of llama.cpp's types."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages._calibration import INPUT
from stages._calibration_text import CalibrationText, required_text, windows
from stages._divergence import Probe, layer_of, replaced
from stages._ggml import fits, size_of
from stages._gguf_types import TensorType
from stages._imatrix import FILE as IMATRIX_FILE
from stages._imatrix import KIND as IMATRIX
from stages._imatrix import Imatrix
from stages._language_model import LanguageModel
from stages._matrices import Matrices
from stages._mixture import KIND, Choice, PathPoint, Sensitivity, TensorSensitivity, path
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of


class MeasureSensitivity(Stage):
    """Round each tensor alone and take the KL divergence on calibration text, for `quantize_gguf: {budget: ...}`."""

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
    windows: int = Field(4, ge=1, description="windows of calibration text that each tensor is measured on")
    held_out: int = Field(4, ge=1, description="further windows that whole mixtures are measured on")
    window: int = Field(256, ge=16, description="tokens a window")
    points: int = Field(5, ge=2, description="mixtures between the smallest and the largest that are measured whole")

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write sensitivity.json.

        Raises:
            Refused: no calibration text or too little of it, or a model that llama.cpp does not know.
        """
        text = required_text(context, name_of(self))
        subject = LanguageModel.load(model.path, context.threads)
        probed_on, held_out = self._windows(text, subject)
        given = context.inputs.get(IMATRIX)
        imatrix = Imatrix.load(given.path / IMATRIX_FILE) if given else None
        matrices = Matrices(subject, imatrix, context.threads)
        tensors = self._probed(Probe(subject.model, probed_on), matrices, context)
        made = Sensitivity(
            tokens=probed_on.size,
            held_out_tokens=held_out.size,
            imatrix_tokens=imatrix.tokens if imatrix else 0,
            tensors=tensors,
            points=self._points(Probe(subject.model, held_out), matrices, tensors, context),
        )
        made.save(context.out)
        return Produced(facts={"tensors": len(tensors), "tokens": made.tokens, "text": text.name})

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
        found = []
        for number, name in enumerate(matrices.names, 1):
            if choices := [kind for kind in self.types if fits(kind, matrices.columns(name))]:
                found.append(_sensitivity(name, choices, probe, matrices))
            context.progress(number, len(matrices.names), name)
        if not found:
            raise Refused("no tensor's rows can have one of the `types`", "allow types with blocks of 32: q4_0, q8_0")
        return tuple(found)

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


def _sensitivity(name: str, kinds: list[TensorType], probe: Probe, matrices: Matrices) -> TensorSensitivity:
    """KL divergence grows with the squared error, so one measurement serves every type of a tensor."""
    parameter = matrices.parameter(name)
    smallest = min(kinds, key=lambda kind: size_of(kind, parameter.numel()))
    with replaced({parameter: matrices.rounded(name, smallest)}):
        measured = max(0.0, probe.loss(layer_of(name)).kl)
    errors = {kind: matrices.error(name, kind) for kind in kinds}
    scale = measured / errors[smallest] if errors[smallest] else 0.0
    choices = tuple(
        Choice(type=kind, size_bytes=size_of(kind, parameter.numel()), kl=error * scale)
        for kind, error in errors.items()
    )
    return TensorSensitivity(name=name, elements=parameter.numel(), probe=smallest, choices=choices)
