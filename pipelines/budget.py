"""Budgets and the verdicts on them: one-sided, per metric, judged on the interval."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.measures import Interval, Metric, Report
from stages.base import Frozen

Decision = Literal["pass", "fail", "inconclusive"]
DEPLOYABLE_METRICS = (
    "ttft",
    "tbt",
    "prefill",
    "decode",
    "speed",
    "load",
    "peak_memory",
    "size",
)


class Verdict(Frozen):
    """What a budget says of one report."""

    decision: Decision = Field(description="what the interval says")
    passed: bool = Field(description="whether the flow may go on, `on_inconclusive` applied")
    metric: str
    message: str
    flagged: bool = Field(False, description="passed or failed on less than an interval")


class Budget(Frozen):
    """The least that must hold of one metric, against the reference or in itself."""

    metric: str = Field(description="a metric's name: perplexity, top1_agreement, kl_divergence, size_bytes, ...")
    max_regression: float | None = Field(None, ge=0, description="how much worse than the reference; `2%` is relative")
    relative: bool = Field(False, description="max_regression is a share of the reference's value")
    min: float | None = Field(None, description="least value")
    max: float | None = Field(None, description="greatest value")
    on_inconclusive: Literal["fail", "point", "pass"] = Field(
        "point", description="what decides when the interval still spans the limit: nothing, the value, or you"
    )

    @model_validator(mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(limit := value.get("max_regression"), str) and limit.endswith("%"):
            return {**value, "max_regression": float(limit[:-1]) / 100, "relative": True}
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.max_regression is None and self.min is None and self.max is None:
            raise ValueError("needs max_regression, min or max")
        return self

    @property
    def on_deployable(self) -> bool:
        """Whether only the last artifact is judged: speed and size, not quality."""
        return self.metric.startswith(DEPLOYABLE_METRICS)

    def judge(self, candidate: Report, reference: Report) -> Verdict:
        """The strictest of the budget's limits decides."""
        raise NotImplementedError
