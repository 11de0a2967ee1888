"""Speed by alternating blocks: reference and candidate generate in turn, so that the machine's drift hits both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats
from pipelines.measures import Interval
from stages.base import Frozen
from targets.base import Generated

DRAWS = 1000
DRIFT = 0.10


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
    stopped: Literal["precision", "pairs", "time"]


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
    limits: tuple[int, int, float, float],
    progress: Callable[[int], None] = lambda _: None,
) -> Samples:
    """Alternate until the speed ratio is known well enough.

    `limits` are the least and the most pairs, the wanted half width of the ratio's interval as a share of its value,
    and seconds. The first pair warms up and is dropped; the order within pairs alternates.
    """
    least, most, precision, seconds = limits
    reference(), candidate()
    begin, pairs = time.monotonic(), list[Pair]()
    stopped: Literal["precision", "pairs", "time"] = "pairs"
    while len(pairs) < most:
        pairs.append(_pair(reference, candidate, swapped=len(pairs) % 2 == 1))
        progress(len(pairs))
        if len(pairs) >= least and _narrow(ratio_of(pairs, 0), precision):
            stopped = "precision"
            break
        if len(pairs) >= least and time.monotonic() - begin > seconds:
            stopped = "time"
            break
    return Samples(prompt_tokens=prompt_tokens, pairs=tuple(pairs), stopped=stopped)


def _pair(reference: Generate, candidate: Generate, swapped: bool) -> Pair:
    if swapped:
        second = Block.of(candidate())
        return Pair(reference=Block.of(reference()), candidate=second)
    first = Block.of(reference())
    return Pair(reference=first, candidate=Block.of(candidate()))


def _narrow(interval: Interval, precision: float) -> bool:
    return interval.high - interval.low <= 2 * precision * interval.value


def ratio_of(pairs: list[Pair] | tuple[Pair, ...], seed: int) -> Interval:
    """Reference's time between tokens over the candidate's: the median over pairs of the ratio of block medians."""
    ratios = np.array([np.median(pair.reference.gaps_s) / np.median(pair.candidate.gaps_s) for pair in pairs])
    return drawn(lambda rows: np.median(ratios[rows], axis=1), len(pairs), seed)


def drawn(statistic: Callable[[NDArray[np.int64]], Floats], n: int, seed: int) -> Interval:
    """A statistic over pairs with its 95% percentile bootstrap interval; see `bootstrap`, with fewer draws."""
    generator = np.random.default_rng(seed)
    value = float(statistic(np.arange(n)[None])[0])
    low, high = np.percentile(statistic(generator.integers(0, n, size=(DRAWS, n))), [2.5, 97.5])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def drift(samples: Samples) -> float:
    """Change of the reference's own time between tokens from the first half of its blocks to the second, as a share."""
    gaps = [float(np.median(pair.reference.gaps_s)) for pair in samples.pairs]
    half = len(gaps) // 2
    return float(np.median(gaps[half:]) / np.median(gaps[:half]) - 1)
