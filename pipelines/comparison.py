"""What comes of measuring a candidate against the reference: reports on the same samples, and verdicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from pipelines.budget import Budget, Verdict
from pipelines.measures import Metric, Report
from pipelines.measuring import Measurer, Subject
from stages.base import Artifact, Frozen

M = TypeVar("M", bound=Measurer)
Metrics = dict[str, Metric]


class Comparison(Frozen):
    """What one measurement of a candidate yields: its report, the reference's on the same samples, the verdicts."""

    candidate: Report
    reference: Report
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Candidate:
    """A subject after its stage. `deployable` is the last one: only there speed and size are judged.

    No budget is judged where a later step heals. `baseline` is what a model of arrays is timed against, its float
    version in the same runtime. `draft` is the draft model of a language model.
    """

    subject: Subject
    stage: str
    size_bytes: int
    reference_bytes: int
    deployable: bool
    baseline: Subject | None = None
    judged: bool = True
    draft: Artifact | None = None


class Comparer(ABC, Generic[M]):
    """One candidate's comparison with the reference."""

    timed_against: ClassVar[str] = "the reference"

    def __init__(self, measurer: M, candidate: Candidate) -> None:
        self._measurer, self._candidate = measurer, candidate
        self._config = measurer.bench.config
        self._notes: list[str] = []

    def comparison(self) -> Comparison:
        """Measure everything that the config asks for."""
        mine, theirs = self._quality()
        self._speed(mine, theirs)
        self._notes += suspicious(mine)
        report, reference = self._report(mine), self._report(theirs, of_reference=True)
        verdicts = tuple(self._verdict(budget, report) for budget in self._judged())
        return Comparison(candidate=report, reference=reference, verdicts=verdicts)

    @abstractmethod
    def _quality(self) -> tuple[Metrics, Metrics]:
        """The quality metrics of candidate and reference."""

    @abstractmethod
    def _speed(self, mine: Metrics, theirs: Metrics) -> None:
        """Add speed and size to both."""

    def _verdict(self, budget: Budget, report: Report) -> Verdict:
        """The budget's own verdict; a candidate that is slower is called that, whatever the budget allows."""
        verdict, measured = budget.judge(report), report.metrics.get(budget.metric)
        if measured is None or not measured.name.startswith("speed_ratio") or measured.high >= 1:
            return verdict
        return verdict.model_copy(update={"message": f"{verdict.message}: slower than {self.timed_against}"})

    def _judged(self) -> list[Budget]:
        budgets = self._config.budgets if self._candidate.judged else ()
        return [budget for budget in budgets if self._candidate.deployable or not budget.on_deployable]

    def _report(self, metrics: dict[str, Metric], of_reference: bool = False) -> Report:
        subject = self._measurer.reference if of_reference else self._candidate.subject
        return Report(
            artifact=subject.artifact.digest,
            stage="reference" if of_reference else self._candidate.stage,
            device=self._measurer.bench.device,
            metrics=metrics,
            notes=() if of_reference else tuple(self._notes),
        )


def suspicious(metrics: dict[str, Metric]) -> list[str]:
    """Quality metrics that are better than the reference's beyond their interval: luck, or a broken measurement."""
    found = []
    for item in metrics.values():
        if item.relative is None or not item.name.startswith(("perplexity", "accuracy")):
            continue
        gain = item.relative.scaled(1 if item.higher_is_better else -1)
        if gain.low > 0:
            found.append(f"suspicious gain: {item.name} is {gain.value:.2%} better than the reference's")
    return found
