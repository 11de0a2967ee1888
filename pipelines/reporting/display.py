"""A metric as people read it: 138 MB, 13.7 ms, 98.1%, its interval and its change in the same decimals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.measures import Interval, Metric

BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
UNITS = {"tokens/s": " tok/s", "x": "x", "": ""}


@dataclass(frozen=True)
class Scale:
    """How values of one metric are written: multiplied, with so many decimals, then the unit."""

    factor: float
    decimals: int
    unit: str

    def bare(self, amount: float, sign: str = "") -> str:
        """The number without its unit; `sign="+"` writes it with its sign."""
        return f"{amount * self.factor:{sign}.{self.decimals}f}"


def scale_of(metric: Metric) -> Scale:
    """The scale that suits the metric's value: three significant digits, four of perplexity."""
    factor, unit = _factor(metric.unit, abs(metric.value))
    if metric.unit == "share":
        return Scale(factor, 1, unit)
    return Scale(factor, _decimals(metric.value * factor, 3 if metric.unit else 4), unit)


def value(metric: Metric) -> str:
    """`13.7 ms`."""
    scale = scale_of(metric)
    return scale.bare(metric.value) + scale.unit


def interval(metric: Metric) -> str:
    """`13.5..14.0 ms`, with the decimals of the value; empty when the metric has no width."""
    if metric.low == metric.high:
        return ""
    scale = scale_of(metric)
    return f"{scale.bare(metric.low)}..{scale.bare(metric.high)}{scale.unit}"


def change(metric: Metric) -> str:
    """`+1.39%` against the reference, `-0.40 pt` of a share, or the absolute change; empty when there is none."""
    if metric.change and metric.unit == "share":
        return f"{100 * metric.change.value:+.2f} pt"
    if metric.relative:
        return f"{metric.relative.value:+.{_percent_decimals(metric.relative)}%}"
    if metric.change:
        scale = scale_of(metric)
        return scale.bare(metric.change.value, "+") + scale.unit
    return ""


def change_of(relative: Interval) -> str:
    """`+1.39%` with its interval: `+1.39% (+1.10..+1.72%)`."""
    decimals = _percent_decimals(relative)
    return f"{relative.value:+.{decimals}%} ({100 * relative.low:+.{decimals}f}..{100 * relative.high:+.{decimals}f}%)"


def change_interval(metric: Metric) -> str:
    """`+1.10..+1.72%`; empty when there is none."""
    if metric.change and metric.unit == "share":
        return f"{100 * metric.change.low:+.2f}..{100 * metric.change.high:+.2f} pt"
    if relative := metric.relative:
        decimals = _percent_decimals(relative)
        return f"{100 * relative.low:+.{decimals}f}..{100 * relative.high:+.{decimals}f}%"
    if metric.change:
        scale = scale_of(metric)
        return f"{scale.bare(metric.change.low, '+')}..{scale.bare(metric.change.high, '+')}{scale.unit}"
    return ""


def _percent_decimals(relative: Interval) -> int:
    """Two, or three where converters that agree are told apart: -0.004%."""
    return 2 if abs(relative.value) >= 1e-4 else 3


def _factor(unit: str, amount: float) -> tuple[float, str]:
    if unit == "share":
        return 100, "%"
    if unit == "bytes":
        return next(((1 / size, f" {name}") for size, name in BYTE_UNITS if amount >= size), (1, " B"))
    return 1, UNITS.get(unit, f" {unit}")


def _decimals(amount: float, significant: int) -> int:
    if not amount or not math.isfinite(amount):
        return 0
    return min(6, max(0, significant - 1 - math.floor(math.log10(abs(amount)))))
