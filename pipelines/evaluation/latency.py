"""Speed by alternating blocks: reference and candidate generate in turn, so that the machine's drift hits both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats
from pipelines.measures import Interval
from stages.base import Frozen
from targets.base import Generated

DRAWS = 1000
DRIFT = 0.10

T = TypeVar("T")
Stopped = Literal["precision", "pairs", "time"]
Limits = tuple[int, int, float, float]
"""Least and most pairs, the wanted half width of the ratio's interval as a share of its value, and seconds."""


class Block(Frozen):
    """One generation: seconds to the first token, then between tokens."""

    ttft_s: float
    gaps_s: tuple[float, ...]

    @classmethod
    def of(cls, made: Generated) -> Block:
        """The times of a generation of at least two tokens."""
        return cls(ttft_s=made.seconds[0], gaps_s=made.seconds[1:])


class Pair(Frozen):
    """A block of the reference and a block of the candidate, one right after the other."""

    reference: Block
    candidate: Block


class Samples(Frozen):
    """Every pair at one prompt length, and why sampling stopped."""

    prompt_tokens: int
    pairs: tuple[Pair, ...]
    stopped: Stopped


class SpeedSamples(Frozen):
    """All that was timed of a reference and a candidate, in their own live workers."""

    lengths: tuple[Samples, ...]
    load_s: tuple[float, float]
    peak_memory_bytes: tuple[int, int]
    memory_bandwidth_gb_s: float


Generate = Callable[[], Generated]


def sample(
    reference: Generate,
    candidate: Generate,
    prompt_tokens: int,
    limits: Limits,
    progress: Callable[[int], None] = lambda _: None,
) -> Samples:
    """Alternate until the speed ratio is known well enough; see `alternate`."""
    pairs, stopped = alternate(
        lambda: Block.of(reference()),
        lambda: Block.of(candidate()),
        lambda found: ratio([(one.gaps_s, other.gaps_s) for one, other in found], 0),
        limits,
        progress,
    )
    made = tuple(Pair(reference=one, candidate=other) for one, other in pairs)
    return Samples(prompt_tokens=prompt_tokens, pairs=made, stopped=stopped)


def alternate(
    reference: Callable[[], T],
    candidate: Callable[[], T],
    ratio_of: Callable[[list[tuple[T, T]]], Interval],
    limits: Limits,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[tuple[T, T]], Stopped]:
    """Pairs of blocks until the ratio is known well enough, and why they ended.

    The first pair warms up and is dropped; the order within pairs alternates.
    """
    least, most, precision, seconds = limits
    reference(), candidate()
    begin, pairs = time.monotonic(), list[tuple[T, T]]()
    while len(pairs) < most:
        pairs.append(_pair(reference, candidate, swapped=len(pairs) % 2 == 1))
        progress(len(pairs))
        if len(pairs) >= least and _narrow(ratio_of(pairs), precision):
            return pairs, "precision"
        if len(pairs) >= least and time.monotonic() - begin > seconds:
            return pairs, "time"
    return pairs, "pairs"


def _pair(reference: Callable[[], T], candidate: Callable[[], T], swapped: bool) -> tuple[T, T]:
    if swapped:
        second = candidate()
        return reference(), second
    first = reference()
    return first, candidate()


def _narrow(interval: Interval, precision: float) -> bool:
    return interval.high - interval.low <= 2 * precision * interval.value


def ratio_of(pairs: list[Pair] | tuple[Pair, ...], seed: int) -> Interval:
    """Reference's time between tokens over the candidate's: the median over pairs of the ratio of block medians."""
    return ratio([(pair.reference.gaps_s, pair.candidate.gaps_s) for pair in pairs], seed)


def ratio(seconds: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int) -> Interval:
    """The median over pairs of (median of the first block / median of the second), its interval over pairs."""
    ratios = np.array([np.median(first) / np.median(second) for first, second in seconds])
    return drawn(lambda rows: np.median(ratios[rows], axis=1), len(seconds), seed)


def drawn(statistic: Callable[[NDArray[np.int64]], Floats], n: int, seed: int) -> Interval:
    """A statistic over pairs with its 95% percentile bootstrap interval; see `bootstrap`, with fewer draws."""
    generator = np.random.default_rng(seed)
    value = float(statistic(np.arange(n)[None])[0])
    low, high = np.percentile(statistic(generator.integers(0, n, size=(DRAWS, n))), [2.5, 97.5])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def drift(samples: Samples) -> float:
    """Change of the reference's own time between tokens from the first half of its blocks to the second, as a share."""
    return drift_of([pair.reference.gaps_s for pair in samples.pairs])


def drift_of(blocks: Sequence[Sequence[float]]) -> float:
    """Change of the median seconds from the first half of the blocks to the second, as a share."""
    medians = [float(np.median(block)) for block in blocks]
    half = len(medians) // 2
    return float(np.median(medians[half:]) / np.median(medians[:half]) - 1)
