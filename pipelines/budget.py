"""Budgets and the verdicts on them: one-sided, per metric, judged on the interval."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from pipelines.measures import Interval, Metric, Report, kind_of, of_quality
from pipelines.quantities import difference, quantity
from stages.base import Frozen

Decision = Literal["pass", "fail", "inconclusive"]
LIMITS = ("max_regression", "min", "max")
_NUMBER = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_WITH_UNIT = re.compile(_NUMBER + r" ?(%|kB|MB|GB)")
_FACTOR = {"%": (1, 100), "kB": (1e3, 1), "MB": (1e6, 1), "GB": (1e9, 1)}  # 7 / 100 is 0.07, 7 * 0.01 is not
_UNIT_OF = {"%": "share", "kB": "bytes", "MB": "bytes", "GB": "bytes"}
_LEANING: dict[Decision, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


Limit = Annotated[
    float | None,
    Field(allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{_WITH_UNIT.pattern}$"}, {"type": "null"}]},
        mode="validation",
    ),
]


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
    max_regression: Limit = Field(None, ge=0, description="how much worse than the reference; `2%` is relative")
    relative: bool = Field(False, description="max_regression is a share of the reference's value")
    min: Limit = Field(None, description="least value; shares may be written as `98%`")
    max: Limit = Field(None, description="greatest value; sizes may be written as `150 MB`")
    on_inconclusive: Literal["fail", "point", "pass"] = Field(
        "point", description="what decides when the interval still spans the limit: `point` is the measured value"
    )

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        limit, kind = str(value.get("max_regression")), kind_of(str(value.get("metric")))
        share = {"max_regression": _number(limit, "share"), "relative": True}
        found = {key: _number(value.get(key), kind.unit if kind else "") for key in LIMITS}
        found |= share if share["max_regression"] is not None else {}
        return {**value, **{key: number for key, number in found.items() if number is not None}}

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.max_regression is None and self.min is None and self.max is None:
            raise ValueError("a budget needs `max_regression`, `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is greater than `max`")
        return self

    @property
    def on_deployable(self) -> bool:
        """Whether only the last artifact is judged: speed and size. Quality is judged after every stage."""
        kind = kind_of(self.metric)
        return kind is not None and not of_quality(kind)

    def judge(self, candidate: Report) -> Verdict:
        """The strictest of the budget's limits decides. The metric carries its paired change to the reference."""
        measured = candidate.metrics.get(self.metric)
        if measured is None:
            return self._unjudged("was not measured", candidate.stage)
        verdicts = [
            self._verdict(measured, name, candidate.stage) for name in LIMITS if getattr(self, name) is not None
        ]
        return min(verdicts, key=lambda verdict: (verdict.passed, _LEANING[verdict.decision]))

    def _unjudged(self, why: str, stage: str) -> Verdict:
        return Verdict(decision="fail", passed=False, metric=self.metric, message=f"{self.metric} {why} after {stage}")

    def _verdict(self, measured: Metric, limit: str, stage: str) -> Verdict:
        if limit == "max_regression" and self._change(measured) is None:
            return self._unjudged("has nothing to be compared with: the reference's is 0 or was not measured", stage)
        loss, allowed = self._loss(measured, limit)
        decision: Decision = "fail"  # so a value that is no number is one
        if loss.high <= allowed:
            decision = "pass"
        elif loss.low <= allowed:
            decision = "inconclusive"
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
        change = self._change(measured)
        assert change is not None
        return change.scaled(-1 if measured.higher_is_better else 1), self.max_regression or 0.0

    def _change(self, measured: Metric) -> Interval | None:
        return measured.relative if self.relative else measured.change


def _number(value: Any, unit: str) -> float | None:
    """What `98%` or `150 MB` stands for; None if it is no text of that unit."""
    match = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None or _UNIT_OF[match[2]] != unit:
        return None
    times, parts = _FACTOR[match[2]]
    return float(match[1]) * times / parts


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
    unit = "%" if budget.relative else measured.unit
    by, low, high = (difference(bound, unit) for bound in (change.value, change.low, change.high))
    spread = f", interval {low.lstrip('+')}..{high.lstrip('+')}" if change.low != change.high else ""
    allowed = difference(budget.max_regression or 0.0, unit).lstrip("+")
    return f"{name} {verb} {was} -> {now} ({by}{spread}, allowed {allowed})"
