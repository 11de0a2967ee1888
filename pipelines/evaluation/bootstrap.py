"""The statistics behind the intervals: paired bootstrap, Wilson, McNemar."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from pipelines.measures import Interval

DRAWS = 10_000
Z = 1.959964
Floats = NDArray[np.float64]


def bootstrap(statistic: Callable[[NDArray[np.int64]], Floats], n: int, seed: int) -> Interval:
    """The statistic over all n samples with its 95% expanded percentile interval (see `tail`).

    `statistic` takes sample numbers of shape (draws, n) and gives one value a draw; pairs stay together because
    every array is indexed by the same numbers.
    """
    generator = np.random.default_rng(seed)
    value = float(statistic(np.arange(n)[None])[0])
    drawn = statistic(generator.integers(0, n, size=(DRAWS, n)))
    low, high = np.quantile(drawn, [tail(n), 1 - tail(n)])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def tail(n: int) -> float:
    """The share of draws to leave out on each side, for n samples.

    Plain percentiles (2.5%) are too narrow for few samples: the interval of a mean of 16 held it in 90% of 2,000
    trials, of 8 in 88%. Expanded ones take the tail of the normal distribution at sqrt(n / (n - 1)) t(0.975, n - 1)
    (Hesterberg 2015, The American Statistician 69): 95% and 95%.
    """
    if n < 2:
        return 0.025
    return 0.5 * erfc(sqrt(n / (n - 1)) * _student(n - 1) / sqrt(2))


def _student(freedom: int) -> float:
    """97.5% quantile of Student's t, to 1% from 3 degrees of freedom on (Abramowitz and Stegun 1964, 26.7.5)."""
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3


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


def mcnemar_test(reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> str:
    """The pairs that differ and McNemar's exact two-sided p-value: a fair coin over them (McNemar 1947)."""
    gained, lost = int(np.sum(~reference & candidate)), int(np.sum(reference & ~candidate))
    n = gained + lost
    tail_mass = sum(comb(n, k) for k in range(min(gained, lost) + 1))
    return f"{gained} gained, {lost} lost, p = {min(1.0, 2 * tail_mass / 2**n):.2g}"


def exactly(value: float) -> Interval:
    """A number that has no spread."""
    return Interval(value=value, low=value, high=value)
