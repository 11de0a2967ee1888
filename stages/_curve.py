"""How a training goes, for whoever follows the run. Not in `base.py`: an edit there makes every artifact anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stages.base import Context

Curve = Callable[[int, Mapping[str, float]], None]
"""Takes a number of steps, or epochs, and metrics by name."""


def no_curve(step: int, values: Mapping[str, float]) -> None:
    """Follow nothing."""


@dataclass(frozen=True)
class Followed(Context):
    """A context that a training tells of its losses."""

    curve: Curve = no_curve


def curve_of(context: Context) -> Curve:
    """Who is told, if anybody."""
    return context.curve if isinstance(context, Followed) else no_curve
