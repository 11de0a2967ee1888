"""How near a candidate comes to the float model, on calibration examples that calibrated nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._inputs import Inputs
from stages._onnx_calibrate import Rows, evenly
from stages._onnx_file import write
from stages._onnx_parity import Runtime, runtime
from stages._tokens import Tokens
from stages.base import Context, Frozen, Refused

MOST_DB = 150.0  # two float32 results that are the same to the last bit
_Z = 1.96  # of a 95% interval


class Judged(Frozen):
    """The first output against the float model's: what agrees, and signal to quantization noise.

    The agreement is the share of unchanged top-1 answers, or of embeddings their mean cosine: these have no answer, and
    `deviation`, the cosines' standard deviation. SQNR is 10 log10(sum of squares of the float output / sum of squares
    of the difference), in dB.
    """

    examples: int
    agreement: float
    sqnr_db: float
    deviation: float | None = None

    @property
    def told(self) -> str:
        """What the agreement is."""
        return "same top-1" if self.deviation is None else "mean cosine"

    @property
    def interval(self) -> tuple[float, float]:
        """The agreement's 95% interval (Wilson 1927; of a mean, the normal one)."""
        if self.deviation is not None:
            return self.agreement - _Z * self.standard_error, min(1.0, self.agreement + _Z * self.standard_error)
        share, n = self.agreement, self.examples
        centre, width = share + _Z**2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return max(0.0, (centre - width) / (1 + _Z**2 / n)), min(1.0, (centre + width) / (1 + _Z**2 / n))

    @property
    def standard_error(self) -> float:
        """Of the agreement."""
        if self.deviation is not None:
            return self.deviation / math.sqrt(self.examples)
        return math.sqrt(self.agreement * (1 - self.agreement) / self.examples)


@dataclass(frozen=True)
class Split:
    """Rows of the calibration examples: `calibrating` give ranges, `judging` are only ever judged on."""

    calibrating: Rows
    judging: Rows


def split(count: int, used: int, judging: float, seed: int) -> Split:
    """`used` of `count` examples, evenly spaced; that share of them, drawn with the seed, judges.

    Raises:
        Refused: nothing would be left for one of the two.
    """
    rows = evenly(count, used)
    judges = round(used * judging)
    if judging and not 0 < judges < used:
        raise Refused(
            f"{used} calibration examples cannot be split into a part that calibrates and a part that judges",
            "raise `examples`",
        )
    # drawn, not every other one: data in the order 0, 1, ... 9, 0, 1, ... would be split by class
    drawn = np.zeros(used, dtype=np.bool_)
    drawn[np.random.default_rng(seed).permutation(used)[:judges]] = True
    return Split(rows[~drawn], rows[drawn])


class Judge:
    """The float model's answers on the judging examples, and how far a candidate's are from them."""

    def __init__(self, reference: Path, examples: Inputs, rows: Rows, batch: int, context: Context) -> None:
        self._examples, self._rows, self._batch, self._context = examples, rows, batch, context
        self._expected = self._answers(runtime(reference, context.threads, "basic"))

    def __call__(self, model: Any) -> Judged:
        """Judge a ModelProto.

        It runs without the CPU's integer kernels, so that every machine sees the same and makes the same choice.
        """
        folder = self._context.scratch / "judged"
        folder.mkdir(exist_ok=True)
        got = self._answers(runtime(write(model, folder), self._context.threads, "basic"))
        sqnr = sqnr_db(self._expected, got)
        if isinstance(self._examples, Tokens):
            each = cosines(self._expected, got)
            spread = float(each.std())
            return Judged(examples=len(each), agreement=float(each.mean()), sqnr_db=sqnr, deviation=spread)
        same = got.argmax(1) == self._expected.argmax(1)
        return Judged(examples=len(same), agreement=float(same.mean()), sqnr_db=sqnr)

    def _answers(self, model: Runtime) -> NDArray[np.float64]:
        """The first output for every judging example, shape (examples, values)."""
        parts = [self._rows[start : start + self._batch] for start in range(0, len(self._rows), self._batch)]
        made = [next(iter(model(self._examples.feed(rows, model.names)).values())) for rows in parts]
        return np.concatenate([each.reshape(len(each), -1) for each in made]).astype(np.float64)


def cosines(expected: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row with its own counterpart, shape (rows,); 0 for a row without length or with no number in it."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(got, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = (expected * got).sum(axis=1) / lengths
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def sqnr_db(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Signal to quantization noise in dB, at most 150; -150 for outputs that are no numbers."""
    noise, signal = float(np.square(expected - got).sum()), float(np.square(expected).sum())
    if not math.isfinite(noise) or not signal:
        return -MOST_DB if noise else MOST_DB
    return max(-MOST_DB, min(MOST_DB, 10 * math.log10(signal / noise))) if noise else MOST_DB


def best(candidates: Sequence[tuple[str, Judged]]) -> str:
    """The highest SQNR among those whose agreement is within a standard error of the highest agreement."""
    leading = max((judged for _, judged in candidates), key=lambda judged: judged.agreement)
    least = leading.agreement - leading.standard_error
    return max(
        (entry for entry in candidates if entry[1].agreement >= least), key=lambda entry: (entry[1].sqnr_db, entry[0])
    )[0]
