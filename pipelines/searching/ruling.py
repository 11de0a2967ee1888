"""Why a point needs no making: what the planner and the points before it say of it, with room for their errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from pipelines.budget import Budget
from pipelines.quantities import size
from pipelines.searching.trials import CHANGE, Forecast, Trial, dominates, in_full, no_worse, sign

MARGINS = {"size_bytes": 0.02, "tbt_p50_ms": 0.30}
"""What nine of ten predictions keep within before calibration (PLANNER.md, section 7)."""
SLACK = 2.0
"""A loss may come out at half of what a prior, or the next more precise type, says: Q5_K_M of SmolLM2-135M lost 11.6%,
Q4_K_M 7.1%. A ladder of quantizations is monotone no further than that."""


@dataclass(frozen=True)
class Ruling:
    """Rules points out by predictions, and by what was measured so far."""

    budgets: tuple[Budget, ...]
    objectives: tuple[str, ...]

    def why(self, point: dict[str, JsonValue], expected: Forecast, trials: Sequence[Trial]) -> str:
        """Why the point cannot be within the budgets, or cannot be better than what was found; else nothing."""
        return self._too_large(expected) or self._too_lossy(point, expected, trials) or self._beaten(
            point, expected, trials
        )  # fmt: skip

    def _too_large(self, expected: Forecast) -> str:
        for budget in self.budgets:
            least = _least(budget.metric, expected)
            if budget.max is not None and least is not None and least > budget.max:
                said, limit = _said(budget.metric, least), _said(budget.metric, budget.max)
                return f"planner: {budget.metric} {said} at least > {limit}"
        return ""

    @property
    def allowed(self) -> float | None:
        """The relative rise of perplexity that the budgets allow."""
        limits = [b.max_regression for b in self.budgets if b.metric == "perplexity" and b.relative]
        return min((limit for limit in limits if limit is not None), default=None)

    def _too_lossy(self, point: dict[str, JsonValue], expected: Forecast, trials: Sequence[Trial]) -> str:
        allowed = self.allowed
        if allowed is None:
            return ""
        loss, whence = least_loss(point, expected, trials)
        return f"perplexity {loss:+.1%} at least > {allowed:.1%} allowed: {whence}" if loss > allowed else ""

    def _beaten(self, point: dict[str, JsonValue], expected: Forecast, trials: Sequence[Trial]) -> str:
        """Whether a point that passed is better even than the best that can be hoped for of this one."""
        hoped = [self._hoped(name, point, expected, trials) for name in self.objectives]
        for trial in in_full(trials):
            if trial.verdict == "passed" and dominates([trial.value(name) for name in self.objectives], hoped):
                first = self.objectives[0]
                at_best = f"{_said(first, sign(first) * hoped[0])}" if hoped[0] is not None else ""
                return f"planner: {first} {at_best} at best, trial {trial.number} is better"
        return ""

    def behind(self, trial: Trial, expected: Forecast) -> bool:
        """Whether a point cannot be better in the first objective than what a first look has seen."""
        seen, least = trial.value(self.objectives[0]), _least(self.objectives[0], expected)
        return seen is not None and least is not None and least >= seen

    def after_a_look(self, trial: Trial, trials: Sequence[Trial]) -> str:
        """Why an early look is enough: the size that it measured is over budget, or a point that passed beats it."""
        known = {name: trial.figures[name].value for name in ("size_bytes",) if name in trial.figures}
        for budget in self.budgets:
            value = known.get(budget.metric)
            if budget.max is not None and value is not None and value > budget.max:
                return f"{budget.metric} {_said(budget.metric, value)} > {_said(budget.metric, budget.max)}"
        change = trial.figures.get(CHANGE)
        if change is not None:
            known["perplexity"] = trial.figures["perplexity"].value * (1 + change.low) / (1 + change.value)
        hoped = [
            known[name] if name in known else self._hoped(name, trial.point, trial.forecast, trials)
            for name in self.objectives
        ]
        for other in in_full(trials):
            if other.verdict == "passed" and no_worse([other.value(name) for name in self.objectives], hoped):
                return f"trial {other.number} is as good or better at any rate"
        return ""

    def _hoped(
        self, metric: str, point: dict[str, JsonValue], expected: Forecast, trials: Sequence[Trial]
    ) -> float | None:
        if metric != "perplexity":
            least = _least(metric, expected)
            return None if least is None else sign(metric) * least
        loss, whence = least_loss(point, expected, trials)
        if not whence:
            return None  # it may well fall: perplexity is no loss that ends at 0
        bases = [t.figures["perplexity"].value / (1 + t.figures[CHANGE].value) for t in trials if CHANGE in t.figures]
        return bases[0] * (1 + loss) if bases else None


def least_loss(point: dict[str, JsonValue], expected: Forecast, trials: Sequence[Trial]) -> tuple[float, str]:
    """The least relative rise of perplexity that the point can be expected to have, and what says so."""
    loss, whence = 0.0, ""
    if expected.perplexity_change is not None:
        loss, whence = expected.perplexity_change / SLACK, f"half of the prior ({expected.prior})"
    for trial in trials:
        change, theirs = trial.figures.get(CHANGE), trial.forecast.size_bytes
        if change is None or theirs is None or expected.size_bytes is None or theirs <= expected.size_bytes:
            continue
        if comparable(trial.point, point) and change.low / SLACK > loss:
            loss, whence = change.low / SLACK, f"half of what trial {trial.number} lost with more bits"
    return loss, whence


def comparable(one: dict[str, JsonValue], other: dict[str, JsonValue]) -> bool:
    """Whether two points differ in one value alone, and it is one of bits: a number, or GGUF types of one family."""
    different = [(one[path], other[path]) for path in one if json.dumps(one[path]) != json.dumps(other.get(path))]
    if len(different) != 1:
        return False
    a, b = different[0]
    if isinstance(a, str) and isinstance(b, str):
        return family(a) != "" and family(a) == family(b)
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))


def family(file_type: str) -> str:
    """GGUF types that differ in bits alone: k-quants, i-quants, legacy ones with a minimum (_1) or without (_0)."""
    name = file_type.lower()
    if name.startswith("iq"):
        return "iq"
    if "_k" in name and name.startswith("q"):
        return "k"
    return f"legacy {name[-1]}" if name[:1] == "q" and name[-2:] in {"_0", "_1"} else ""


def _least(metric: str, expected: Forecast) -> float | None:
    value = getattr(expected, metric, None) if metric in MARGINS else None
    return None if value is None else value * (1 - MARGINS[metric])


def _said(metric: str, value: float) -> str:
    return size(value) if metric.endswith("_bytes") else f"{value:.4g}"
