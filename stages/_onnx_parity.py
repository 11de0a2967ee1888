"""Whether two models still say the same on real inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from stages._inputs import Feed, Inputs
from stages._onnx_session import Level, opened, options
from stages.base import Frozen, Refused

EXAMPLES, BATCH = 64, 16
Array = NDArray[np.generic]
Model = Callable[[Feed], Mapping[str, Array]]


class Parity(Frozen):
    """Differences over all outputs; `scale` is the greatest absolute value that the reference gave."""

    examples: int
    max_difference: float
    mean_difference: float
    scale: float
    same_top1: float

    @property
    def relative(self) -> float:
        """The greatest difference as a share of the output's scale; infinite where a value is no number."""
        share = self.max_difference / self.scale if self.scale else self.max_difference
        return share if np.isfinite(share) else float("inf")

    def facts(self) -> dict[str, JsonValue]:
        """For the artifact's record, to 3 significant digits: the last ones differ between machines."""
        measured = {**self.model_dump(exclude={"examples"}), "relative_difference": self.relative}
        return {"examples": self.examples, **{key: float(f"{value:.3g}") for key, value in measured.items()}}


def compared(reference: Model, candidate: Model, inputs: Inputs, names: Sequence[str]) -> Parity:
    """Both models, whose inputs have these names, on up to 64 of the inputs, evenly spaced, in batches.

    Raises:
        Refused: they do not give the same outputs.
    """
    pairs = [(reference(batch), candidate(batch)) for batch in spread(inputs, EXAMPLES, names)]
    differences, scale, same, rows = [], 0.0, 0, 0
    for ours, theirs in pairs:
        if [value.shape for value in ours.values()] != [value.shape for value in theirs.values()]:
            raise Refused(f"the outputs changed from {_shapes(ours)} to {_shapes(theirs)}", "export the model again")
        for index, (expected, got) in enumerate(zip(ours.values(), theirs.values(), strict=True)):
            differences.append(np.abs(expected.astype(np.float64) - got.astype(np.float64)).ravel())
            scale = max(scale, float(np.abs(expected).max(initial=0)))
            if index == 0:
                same += int(
                    (expected.reshape(len(expected), -1).argmax(1) == got.reshape(len(got), -1).argmax(1)).sum()
                )
                rows += len(expected)
    every = np.concatenate(differences)
    return Parity(
        examples=rows,
        max_difference=float(every.max()),
        mean_difference=float(every.mean()),
        scale=scale,
        same_top1=same / rows,
    )


def refuse_beyond(parity: Parity, tolerance: float, what: str, hint: str) -> None:
    """Refuse a candidate whose greatest difference exceeds that share of the output's scale."""
    if parity.relative > tolerance:
        raise Refused(
            f"{what}: outputs differ by up to {parity.relative:.2g} of their scale on {parity.examples} real inputs, "
            f"allowed {tolerance:.2g}",
            hint,
        )


class Runtime:
    """An ONNX file as a function of its inputs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.names = tuple(each.name for each in session.get_inputs())
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, feed: Feed) -> Mapping[str, Array]:
        """Outputs by name, in the model's order."""
        return dict(zip(self._outputs, self._session.run(None, feed), strict=True))


def runtime(file: Path, threads: int, level: Level = "all") -> Runtime:
    """An ONNX file in ONNX Runtime, on the CPU."""
    return Runtime(opened(file, options(threads, level)))


def spread(inputs: Inputs, most: int, names: Sequence[str]) -> list[Feed]:
    """Up to `most` of the inputs, evenly spaced, in batches of 16."""
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(most, len(inputs))).astype(np.int64))
    return [inputs.feed(rows[start : start + BATCH], names) for start in range(0, len(rows), BATCH)]


def _shapes(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
