"""Champion and challenger: what the config asks of a new version, and the word on one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.budget import Budget
from pipelines.measures import Interval, Metric, Report
from pipelines.quantities import difference, quantity
from stages.base import Frozen

PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%")


class Promotion(Frozen):
    """When a version that passed takes the alias `champion`; compared on the same data in the same run."""

    metric: str = Field(description="what must have become better, e.g. perplexity")
    min_gain: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="least gain, by the interval's nearer end; `1%` is relative"
    )
    relative: bool = Field(False, description="min_gain is a share of the champion's value")
    never_worse: tuple[str, ...] = Field((), description="metrics whose interval may not lie on the worse side")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        share = PERCENT.fullmatch(str(value.get("min_gain"))) if isinstance(value, dict) else None
        return {**value, "min_gain": float(share[1]) / 100, "relative": True} if share else value

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What is in doubt while the comparison is: as long as one is inconclusive, more samples are drawn."""
        return tuple(
            Budget(metric=name, max_regression=0.0) for name in dict.fromkeys((self.metric, *self.never_worse))
        )


class Champion(Frozen):
    """The registered version that carries the alias now."""

    version: str
    digest: str = Field(description="of its artifact")
    source: str = Field(description="URI of its bundle")


class Promoted(Frozen):
    """What became of a passed run's version. `version` and a changed decision come from the registry."""

    decision: Literal["promoted", "kept"]
    reason: str
    champion: str | None = Field(None, description="the version it was compared with, none if there was none")
    report: Report | None = Field(None, description="the challenger, measured against the champion")


FIRST = Promoted(decision="promoted", reason="there was no champion")


def decide(promotion: Promotion, report: Report, champion: str) -> Promoted:
    """The word on a challenger whose report carries its paired changes to the champion."""
    against = list(_against(promotion, report))
    return Promoted(
        decision="kept" if against else "promoted",
        reason="; ".join(against) or _gained(report.metrics[promotion.metric], promotion),
        champion=champion,
        report=report,
    )


def _against(promotion: Promotion, report: Report) -> Iterator[str]:
    measured = report.metrics.get(promotion.metric)
    gain = measured and _change(measured, promotion.relative)
    if measured is None or gain is None:
        yield f"{promotion.metric} was not measured against the champion"
    elif not (gain.value > 0 and gain.low >= promotion.min_gain):
        yield f"{_gained(measured, promotion)}, at least {_shown(promotion.min_gain, measured, promotion)} needed"
    for name in promotion.never_worse:
        other = report.metrics.get(name)
        change = other and _change(other, relative=False)
        if other is None or change is None:
            yield f"{name} was not measured against the champion"
        elif change.high < 0:
            was = quantity(other.value - (other.change.value if other.change else 0.0), other.unit)
            yield f"{name} became worse: {was} -> {quantity(other.value, other.unit)}"


def _change(measured: Metric, relative: bool) -> Interval | None:
    """How much better: positive is good, whatever the metric's direction."""
    change = measured.relative if relative else measured.change
    return change and change.scaled(1 if measured.higher_is_better else -1)


def _gained(measured: Metric, promotion: Promotion) -> str:
    gain = _change(measured, promotion.relative)
    assert gain is not None
    value, low, high = (_shown(bound, measured, promotion) for bound in (gain.value, gain.low, gain.high))
    spread = f", interval {low}..{high}" if gain.low != gain.high else ""
    was = quantity(measured.value - (measured.change.value if measured.change else 0.0), measured.unit)
    return f"{measured.name} {was} -> {quantity(measured.value, measured.unit)} (gain {value}{spread})"


def _shown(value: float, measured: Metric, promotion: Promotion) -> str:
    return difference(value, "%" if promotion.relative else measured.unit).lstrip("+")
