"""Metrics of one side of timed pairs, and their change against the other side of the same pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats, exactly
from pipelines.evaluation.latency import drawn
from pipelines.measures import Metric, metric

Statistic = Callable[[Floats, NDArray[np.int64]], Floats]
"""Values of a row a pair, and pair numbers of shape (draws, pairs), to a value a draw."""


def paired(name: str, mine: Floats, base: Floats | None, statistic: Statistic, seed: int, how: str) -> Metric:
    """A statistic over pairs; with `base`, of the same pairs, it carries its change against that side's."""
    n, value = len(mine), drawn(lambda rows: statistic(mine, rows), len(mine), seed)
    if base is None:
        return metric(name, value, n, how)
    change = drawn(lambda rows: statistic(mine, rows) - statistic(base, rows), n, seed)
    relative = drawn(lambda rows: statistic(mine, rows) / statistic(base, rows) - 1, n, seed)
    return metric(name, value, n, how, change, relative)


def once(name: str, mine: float, base: float | None, how: str) -> Metric:
    """A number taken once; with `base` it carries its change against that."""
    if not base:
        return metric(name, exactly(mine), 1, how)
    return metric(name, exactly(mine), 1, how, exactly(mine - base), exactly(mine / base - 1))


def median(values: Floats, rows: NDArray[np.int64]) -> Floats:
    """Of one value a pair."""
    result: Floats = np.median(values[rows], axis=1)
    return result


def percentile(percent: float) -> Statistic:
    """Over all values of all drawn pairs."""

    def statistic(values: Floats, rows: NDArray[np.int64]) -> Floats:
        drawn_values = values[rows].reshape(len(rows), -1)
        result: Floats = np.percentile(drawn_values, percent, axis=1)
        return result

    return statistic
