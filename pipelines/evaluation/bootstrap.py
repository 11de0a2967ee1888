"""The statistics behind the intervals: paired bootstrap, Wilson, McNemar."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from pipelines.measures import Interval

DRAWS = 10_000
Z = 1.959964
Floats = NDArray[np.float64]


def bootstrap(statistic: Callable[[NDArray[np.int64]], Floats], n: int, seed: int) -> Interval:
    """The statistic over all n samples with its 95% percentile interval (Efron and Tibshirani 1993, chapter 13).

    `statistic` takes sample numbers of shape (draws, n) and gives one value a draw; pairs stay together because
    every array is indexed by the same numbers.
    """
    generator = np.random.default_rng(seed)
    value = float(statistic(np.arange(n)[None])[0])
    drawn = statistic(generator.integers(0, n, size=(DRAWS, n)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def wilson(successes: int, n: int) -> Interval:
    """A share with its 95% score interval (Wilson 1927)."""
    share = successes / n
    center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Interval(value=share, low=max(0.0, min(center - half, share)), high=min(1.0, max(center + half, share)))


def mcnemar(reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Interval:
    """Change of a share on the same n examples, with the 95% adjusted Wald interval for matched pairs.

    Half an observation is added to each cell of the 2x2 table (Agresti and Min 2005, Statistics in Medicine 24).
    """
    n = len(reference)
    gained = int(np.sum(~reference & candidate))
    lost = int(np.sum(reference & ~candidate))
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    center = (b - c) / total
    half = Z * sqrt(b + c - (b - c) ** 2 / total) / total
    value = (gained - lost) / n
    return Interval(value=value, low=min(center - half, value), high=max(center + half, value))


def exactly(value: float) -> Interval:
    """A number that has no spread."""
    return Interval(value=value, low=value, high=value)
