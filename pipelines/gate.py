"""Measures each candidate against the reference and judges it; one that breaks a budget goes no further."""

from __future__ import annotations

from pipelines.comparing import Candidate, Comparison, compare
from pipelines.errors import BudgetExceeded, TapeoutError
from pipelines.history import History
from pipelines.measures import Report
from pipelines.measuring import Measurer, Subject
from pipelines.plan import Plan, PlannedStep
from pipelines.planner.sightings import Sighting
from pipelines.planner.watching import sighting
from pipelines.same_tokens import check_tokens
from pipelines.workshop import Workshop
from stages.base import Artifact, name_of


class Gate:
    """Where a run's candidates are measured, one after the other; the history says what came of each."""

    def __init__(self, plan: Plan, shop: Workshop, history: History, measurer: Measurer) -> None:
        self._plan, self._shop, self._history, self._measurer = plan, shop, history, measurer
        self._config = measurer.bench.config
        self._first_opened = {name_of(measurer.reference.target): measurer.reference}

    def measure(self, planned: PlannedStep, model: Artifact, draft: Artifact | None = None) -> None:
        """Compare the step's artifact with the reference, and judge it; `draft` is the draft model it goes with.

        Raises:
            BudgetExceeded: by this one.
            TapeoutError: it could not be measured.
        """
        candidate = self._candidate(planned, model, draft)
        try:
            check_tokens(self._measurer.reference.artifact, model, self._shop.store, self._shop.progress)
            comparison, seconds = compare(self._measurer, candidate)
        except TapeoutError as error:
            self._history.amend(planned.number, status="failed", message=str(error))
            raise
        self._measurer.release(candidate.subject)
        self._keep(planned, candidate, comparison, seconds)
        failed = _failed(comparison)
        if failed:
            raise BudgetExceeded("\n".join(failed), _after_halt(self._history.last_passed))
        if candidate.judged:
            self._history.last_passed = model

    def _candidate(self, planned: PlannedStep, model: Artifact, draft: Artifact | None) -> Candidate:
        assert planned.opener is not None
        subject = Subject(model, planned.opener)
        return Candidate(
            subject=subject,
            stage=planned.step.name,
            size_bytes=self._history.size_of(model),
            reference_bytes=self._history.size_of(self._measurer.reference.artifact),
            deployable=planned.number == len(self._plan.steps),
            baseline=self._baseline(subject),
            judged=self._plan.judged(planned),
            draft=draft,
        )

    def _baseline(self, subject: Subject) -> Subject | None:
        """The first artifact that this runtime opened: before it nothing of the runtime was quantized, or slowed."""
        first = self._first_opened.setdefault(name_of(subject.target), subject)
        return first if first != subject and self._config.of_arrays else None

    def _keep(self, planned: PlannedStep, candidate: Candidate, comparison: Comparison, seconds: float) -> None:
        history, failed = self._history, _failed(comparison)
        history.data = self._measurer.data
        history.amend(self._plan.reference, report=comparison.reference)
        history.amend(
            planned.number,
            role="candidate",
            report=comparison.candidate,
            sighting=self._sighting(planned, candidate, comparison.candidate),
            verdicts=comparison.verdicts,
            evaluation_seconds=seconds,
            status="halted" if failed else "completed",
            message="; ".join(failed),
        )
        history.track(planned.number)

    def _sighting(self, planned: PlannedStep, candidate: Candidate, report: Report) -> Sighting | None:
        subject, reference = candidate.subject, self._measurer.reference.artifact
        evaluation, home = self._config.evaluation, self._shop.home
        target = name_of(subject.target)
        fields, size = planned.step.stage.model_dump(mode="json"), candidate.size_bytes
        versions = self._shop.runner.versions(subject.target)
        return sighting(home, reference, subject.artifact, fields, target, evaluation, report, size, versions)


def _failed(comparison: Comparison) -> list[str]:
    return [verdict.message for verdict in comparison.verdicts if not verdict.passed]


def _after_halt(last_passed: Artifact | None) -> str:
    if last_passed:
        return f"the last artifact within every budget: {last_passed.digest[:12]}"
    return "no artifact was within every budget; `tapeout artifacts ls` lists what was made"
