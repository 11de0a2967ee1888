"""Looks at a point: few windows first, the whole evaluation of what they leave in play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.config import LoadedConfig
from pipelines.searching.carrying import Carried, Making, carry_out, early
from pipelines.searching.ruling import Ruling
from pipelines.searching.trials import CHANGE, Look, Trial, Verdict

SEEN_EARLY = frozenset({"size_bytes"})
"""Metrics that a first look gives for good."""


@dataclass(frozen=True)
class Looking:
    """How points are looked at: by so many windows in full, and at first; `first_windows` of none is no first look."""

    making: Making
    ruling: Ruling
    windows: int
    first_windows: int | None

    @property
    def times_as_long(self) -> float:
        """Windows of the whole evaluation by those of a first look."""
        return self.windows / self.first_windows if self.first_windows else 1.0

    @property
    def sees_all_early(self) -> bool:
        """Whether a first look gives all that is sought."""
        return self.first_windows is not None and set(self.ruling.objectives) <= SEEN_EARLY

    def at(self, trial: Trial, loaded: LoadedConfig, trials: Sequence[Trial]) -> Trial:
        """The trial with what is seen of it; it may be in play still.

        Where the first look gives all that is sought, the whole evaluation can wait until the point is the best.
        """
        seen = self._first(trial, loaded, trials)
        waits = seen.look == "early" and self.sees_all_early
        return self.whole(seen, loaded) if in_play(seen) and not waits else seen

    def _first(self, trial: Trial, loaded: LoadedConfig, trials: Sequence[Trial]) -> Trial:
        """The trial with what few windows say of it. It is in play where they give no reason against it."""
        few = early(loaded, self.first_windows) if self.first_windows else None
        if few is None:
            return trial
        seen = _with(trial, carry_out(few, self.making), "early")
        if seen.verdict == "failed":
            return seen
        if why := self._too_lossy(seen):
            return seen.model_copy(update={"reason": why, "verdict": "over budget"})
        return seen.model_copy(update={"reason": self.ruling.after_a_look(seen, trials)})

    def whole(self, trial: Trial, loaded: LoadedConfig) -> Trial:
        """The trial with all that its config measures."""
        return _with(trial, carry_out(loaded, self.making), "full")

    def _too_lossy(self, trial: Trial) -> str:
        """Whether the early look's whole interval is over the budget of perplexity."""
        allowed, change = self.ruling.allowed, trial.figures.get(CHANGE)
        if allowed is None or change is None or change.low <= allowed:
            return ""
        return f"perplexity {change.value:+.1%} (interval {change.low:+.1%}..{change.high:+.1%}, allowed {allowed:.1%})"

    def violation(self, trial: Trial) -> float:
        """How far over the budgets, in the share that perplexity is over; 0 where nothing says that it is."""
        if trial.verdict == "failed":
            return 1.0
        if trial.verdict != "over budget":
            return 0.0
        allowed, change = self.ruling.allowed, trial.figures.get(CHANGE)
        return max(1e-6, change.value - allowed) if allowed is not None and change is not None else 1e-6


def in_play(trial: Trial) -> bool:
    """Whether only its whole evaluation can say more."""
    return trial.look != "full" and trial.verdict == "pruned" and not trial.reason


def _with(trial: Trial, carried: Carried, look: Look) -> Trial:
    """The trial with what a look at it gave; one that is passed early has everything before it."""
    verdict: Verdict = "pruned" if look == "early" else "passed"
    if carried.error is not None:
        verdict = "over budget" if carried.over_budget else "failed"
    told = {"look": look, "verdict": verdict, "reason": carried.error.message if carried.error else ""}
    found = {"figures": carried.figures, "artifact": carried.artifact, "evaluation_seconds": carried.evaluation_seconds}
    return trial.model_copy(update={**told, **found})
