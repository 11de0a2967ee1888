"""Budgets and the verdicts on them: one-sided, per metric, judged on the interval."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.measures import QUALITY_PARTS, Interval, Metric, Report, kind_of
from pipelines.quantities import quantity
from stages.base import Frozen

Decision = Literal["pass", "fail", "inconclusive"]
_SIZE = re.compile(r"^([0-9.]+) ?(kB|MB|GB)$")
_FACTOR = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


class Verdict(Frozen):
    """What a budget says of one report."""

    decision: Decision = Field(description="what the interval says")
    passed: bool = Field(description="whether the flow may go on, `on_inconclusive` applied")
    metric: str
    message: str
    flagged: bool = Field(False, description="decided without a clear interval")


class Budget(Frozen):
    """The least that must hold of one metric, against the reference or in itself."""

    metric: str = Field(description="a metric's name: perplexity, top1_agreement, kl_divergence, size_bytes, ...")
    max_regression: float | None = Field(None, ge=0, description="how much worse than the reference; `2%` is relative")
    relative: bool = Field(False, description="max_regression is a share of the reference's value")
    min: float | None = Field(None, description="least value")
    max: float | None = Field(None, description="greatest value; sizes may be written as `150 MB`")
    on_inconclusive: Literal["fail", "point", "pass"] = Field(
        "point", description="what decides when the interval still spans the limit: `point` is the measured value"
    )

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {key: _bytes(item) for key, item in value.items()}
        limit = value.get("max_regression")
        if isinstance(limit, str) and re.fullmatch(r"[0-9.]+%", limit):
            return {**value, "max_regression": float(limit[:-1]) / 100, "relative": True}
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.max_regression is None and self.min is None and self.max is None:
            raise ValueError("a budget needs `max_regression`, `min` or `max`")
        return self

    @property
    def on_deployable(self) -> bool:
        """Whether only the last artifact is judged: speed and size. Quality is judged after every stage."""
        kind = kind_of(self.metric)
        return kind is not None and kind.part not in QUALITY_PARTS

    def judge(self, candidate: Report) -> Verdict:
        """The strictest of the budget's limits decides. The metric carries its paired change to the reference."""
        measured = candidate.metrics.get(self.metric)
        if measured is None:
            message = f"{self.metric} was not measured after {candidate.stage}"
            return Verdict(decision="fail", passed=False, metric=self.metric, message=message)
        verdicts = [self._verdict(measured, name, candidate.stage) for name in self._limits()]
        return min(verdicts, key=lambda verdict: (verdict.passed, verdict.decision == "pass"))

    def _limits(self) -> list[Literal["max_regression", "min", "max"]]:
        return [name for name in ("max_regression", "min", "max") if getattr(self, name) is not None]

    def _verdict(self, measured: Metric, limit: str, stage: str) -> Verdict:
        loss, allowed = self._loss(measured, limit)
        decision: Decision = "inconclusive"
        if loss.high <= allowed:
            decision = "pass"
        elif loss.low > allowed:
            decision = "fail"
        passed = decision == "pass" or (decision == "inconclusive" and self._on_inconclusive(loss.value <= allowed))
        message = _message(measured, self, limit) + f" after {stage}"
        if decision == "inconclusive":
            message += f"; the interval spans the limit, on_inconclusive: {self.on_inconclusive}"
        return Verdict(
            decision=decision,
            passed=passed,
            metric=self.metric,
            message=message,
            flagged=decision == "inconclusive",
        )

    def _on_inconclusive(self, point_passes: bool) -> bool:
        return {"fail": False, "pass": True, "point": point_passes}[self.on_inconclusive]

    def _loss(self, measured: Metric, limit: str) -> tuple[Interval, float]:
        """The quantity that may be at most so much, whatever the limit's direction."""
        if limit == "max":
            return measured.interval, self.max or 0.0
        if limit == "min":
            return measured.interval.scaled(-1), -(self.min or 0.0)
        change = measured.relative if self.relative else measured.change
        if change is None:
            raise ValueError(f"{self.metric} has no reference to regress from")
        return change.scaled(-1 if measured.higher_is_better else 1), self.max_regression or 0.0


def _bytes(value: Any) -> Any:
    match = _SIZE.match(value) if isinstance(value, str) else None
    return float(match[1]) * _FACTOR[match[2]] if match else value


def _message(measured: Metric, budget: Budget, limit: str) -> str:
    name, now = measured.name, quantity(measured.value, measured.unit)
    if limit != "max_regression":
        bound = quantity(getattr(budget, limit), measured.unit)
        spread = f"interval {quantity(measured.low, measured.unit)}..{quantity(measured.high, measured.unit)}, "
        spread = spread if measured.low != measured.high else ""
        return f"{name} is {now} ({spread}{'at least' if limit == 'min' else 'at most'} {bound} allowed)"
    change = measured.relative if budget.relative else measured.change
    assert change is not None
    was = quantity(measured.value - (measured.change.value if measured.change else 0.0), measured.unit)
    verb = "rose" if change.value > 0 else "fell" if change.value < 0 else "stayed"
    by, low, high = (_change(bound, budget.relative) for bound in (change.value, change.low, change.high))
    allowed = _change(budget.max_regression or 0.0, budget.relative).lstrip("+")
    return f"{name} {verb} {was} -> {now} ({by}, interval {low.lstrip('+')}..{high.lstrip('+')}, allowed {allowed})"


def _change(value: float, relative: bool) -> str:
    return f"{value * 100:+.2f}".rstrip("0").rstrip(".") + "%" if relative else f"{value:+.4g}"
