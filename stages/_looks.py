"""Looks at the held-out part of a training's data, and how the training went by them."""

from __future__ import annotations

import math

from pydantic import Field

from stages.base import Frozen, Table

_ROWS = 12  # of the curve's table


class Score(Frozen):
    """Of the held-out part: what is compared first, and the loss that decides between equals. Less is better."""

    metric: float
    loss: float

    def better(self, other: Score) -> bool:
        """Whether this is the one to keep."""
        return (self.metric, self.loss) < (other.metric, other.loss)


class Point(Frozen):
    """A look at the held-out part after so many steps; `train` is the mean loss of the steps since the one before."""

    step: int
    train: float | None
    score: Score


class Fit(Frozen):
    """How it went. `diverged` is the step at which the loss went out of bounds, if it did."""

    curve: tuple[Point, ...] = Field(min_length=1)
    best: int
    stopped_early: bool = False
    diverged: int | None = None

    def table(self, metric: str) -> Table:
        """The curve, thinned out to a dozen rows, its first and best and last among them."""
        every = max(1, math.ceil(len(self.curve) / _ROWS))
        shown = [
            point
            for number, point in enumerate(self.curve)
            if number % every == 0 or point.step == self.best or point is self.curve[-1]
        ]
        rows = tuple(
            (f"{point.step}{' (kept)' if point.step == self.best else ''}", _shown(point.train), *_scores(point))
            for point in shown
        )
        return Table(title="Training", header=("step", "loss", f"held out: {metric}", "held out: loss"), rows=rows)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        if self.diverged is not None:
            return (f"training diverged at step {self.diverged}; the weights of step {self.best} were kept",)
        if self.stopped_early:
            return (f"stopped early at step {self.curve[-1].step}; the weights of step {self.best} were kept",)
        return ()


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _scores(point: Point) -> tuple[str, str]:
    return f"{point.score.metric:.4g}", f"{point.score.loss:.4g}"
