"""Points in play whose whole evaluation waits: of many that a first look leaves, only the best need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipelines.searching.trials import Trial

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Postponed:
    """A point after its first look, with Optuna's open trial for it."""

    asked: optuna.Trial
    key: str
    trial: Trial


@dataclass
class Waiting:
    """Those points, in the order in which they were seen."""

    objective: str
    points: list[Postponed] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def trials(self) -> list[Trial]:
        """Their first looks."""
        return [point.trial for point in self.points]

    @property
    def best(self) -> Postponed:
        """The best in the first objective, which every first look gives."""
        return min(self.points, key=lambda point: point.trial.value(self.objective) or 0.0)

    def add(self, point: Postponed) -> None:
        """It waits."""
        self.points.append(point)

    def drop(self, point: Postponed) -> None:
        """It waits no longer."""
        self.points.remove(point)

    def let_go(self, why: Callable[[Trial], str]) -> list[Postponed]:
        """Drop what `why` has a reason against, and give it with the reason."""
        gone = [(point, said) for point in self.points if (said := why(point.trial))]
        for point, _ in gone:
            self.drop(point)
        return [replace(point, trial=point.trial.model_copy(update={"reason": said})) for point, said in gone]
