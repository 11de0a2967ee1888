"""From measurements to a report and verdicts: quality first, with more windows while a verdict is in doubt."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from pipelines.budget import Budget, Verdict
from pipelines.errors import ToolFailed
from pipelines.evaluation.accuracy import accuracy
from pipelines.evaluation.agreement import exact_match, kl_divergence, self_agreement, top1_agreement
from pipelines.evaluation.perplexity import perplexity
from pipelines.evaluation.scores import Scores
from pipelines.evaluation.speed import size_metric, speed_metrics, warnings
from pipelines.keys import evaluation_digest
from pipelines.making import Recipe, obtain
from pipelines.measures import Metric, Report
from pipelines.measuring import Measurer, Subject, loaded
from pipelines.store import WorkFolder
from stages.base import Frozen, Produced


class Comparison(Frozen):
    """What one measurement of a candidate yields: its report, the reference's on the same samples, the verdicts."""

    candidate: Report
    reference: Report
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Candidate:
    """A subject after its stage. `deployable` is the last one: only there speed and size are judged."""

    subject: Subject
    stage: str
    size_bytes: int
    reference_bytes: int
    deployable: bool


def compare(measurer: Measurer, candidate: Candidate) -> tuple[Comparison, float]:
    """The comparison, and the seconds it cost when it was made."""
    bench, fresh = measurer.bench, Comparer(measurer, candidate)
    config = bench.config

    def make(work: WorkFolder) -> Produced:
        (work.out / "comparison.json").write_text(fresh.comparison().model_dump_json())
        return Produced()

    parts: dict[str, JsonValue] = {
        "candidate": measurer.identity(candidate.subject),
        "reference": measurer.identity(measurer.reference),
        "stage": candidate.stage,
        "deployable": candidate.deployable,
        "data": bench.data.digest,
        "evaluation": config.evaluation.model_dump(mode="json"),
        "budgets": [budget.model_dump(mode="json") for budget in config.budgets],
        "seed": config.seed,
        "threads": bench.threads,
        "device": bench.device.identity,
        "evaluators": evaluation_digest(),
    }
    parents = (candidate.subject.artifact.digest, measurer.reference.artifact.digest)
    made = obtain(bench.store, Recipe("measure:comparison", "comparison", parts, parents, make), bench.progress)
    text = (made.artifact.path / "comparison.json").read_text()
    return Comparison.model_validate_json(text), made.entry.seconds


class Comparer:
    """One candidate's comparison with the reference."""

    def __init__(self, measurer: Measurer, candidate: Candidate) -> None:
        self._measurer, self._candidate = measurer, candidate
        self._config = measurer.bench.config
        self._notes: list[str] = []

    def comparison(self) -> Comparison:
        """Measure everything that the config asks for."""
        mine, theirs = self._quality()
        self._speed(mine, theirs)
        self._notes += suspicious(mine)
        report, reference = self._report(mine), self._report(theirs, of_reference=True)
        verdicts = tuple(budget.judge(report) for budget in self._judged())
        return Comparison(candidate=report, reference=reference, verdicts=verdicts)

    def _quality(self) -> tuple[dict[str, Metric], dict[str, Metric]]:
        settings = self._config.evaluation.perplexity
        most, spent, count = self._measurer.windows(settings) if settings else 0, 0.0, 0
        others = self._continuations() + self._tasks()
        if settings is None:
            return _by_name(others, 0), _by_name(others, 1)
        if most < settings.windows:
            self._notes.append(f"the evaluation text fills only {most} of {settings.windows} windows")
        mine, theirs = [], []
        while True:
            first, count = count, min(count + settings.windows, most)
            theirs.append(self._measurer.scored(self._measurer.reference, settings, first, count))
            mine.append(self._measurer.scored(self._candidate.subject, settings, first, count))
            spent += mine[-1].entry.seconds + theirs[-1].entry.seconds
            self._refuse_broken(loaded(mine), self._candidate.stage)
            self._refuse_broken(loaded(theirs), "the reference")
            pairs = others + self._agreement(loaded(mine), loaded(theirs))
            if not self._in_doubt(_by_name(pairs, 0)):
                break
            if count == most or spent > self._config.evaluation.time_limit_s:
                limit = f"all {count} windows" if count == most else "the time limit"
                self._notes.append(f"a verdict is still inconclusive after {limit}")
                break
        return _by_name(pairs, 0), _by_name(pairs, 1)

    def _refuse_broken(self, scores: Scores, made_by: str) -> None:
        """A comparison with NaN is false, so that it would slip through a gate, or halt it without a reason."""
        broken = scores.broken
        if broken:
            raise ToolFailed(
                f"{made_by}: the model's log-probabilities are not finite at {broken} of {scores.logp.size} tokens",
                "its weights or its conversion are broken: `tapeout artifacts ls` says where it lies",
            )

    def _agreement(self, mine: Scores, theirs: Scores) -> list[tuple[Metric, Metric]]:
        seed = self._config.seed
        return [
            (perplexity(mine, theirs, seed), perplexity(theirs, None, seed)),
            (top1_agreement(mine, theirs, seed), self_agreement("top1_agreement")),
            (kl_divergence(mine, theirs, seed), self_agreement("kl_divergence")),
        ]

    def _continuations(self) -> list[tuple[Metric, Metric]]:
        if self._config.evaluation.generation is None:
            return []
        theirs = self._measurer.continuations(self._measurer.reference)
        mine = self._measurer.continuations(self._candidate.subject)
        return [(exact_match(mine, theirs), self_agreement("exact_match"))]

    def _tasks(self) -> list[tuple[Metric, Metric]]:
        found = []
        for task in self._config.evaluation.tasks:
            theirs = self._measurer.answers(self._measurer.reference, task)
            mine = self._measurer.answers(self._candidate.subject, task)
            found.append((accuracy(task, mine, theirs), accuracy(task, theirs, None)))
        return found

    def _in_doubt(self, metrics: dict[str, Metric]) -> bool:
        report = self._report(metrics)
        drawn = {"perplexity", "top1_agreement", "kl_divergence"}
        judged = [budget for budget in self._config.budgets if budget.metric in drawn]
        return any(budget.judge(report).decision == "inconclusive" for budget in judged)

    def _speed(self, mine: dict[str, Metric], theirs: dict[str, Metric]) -> None:
        candidate = self._candidate
        mine["size_bytes"] = size_metric(candidate.size_bytes, candidate.reference_bytes)
        theirs["size_bytes"] = size_metric(candidate.reference_bytes, None)
        if self._config.evaluation.speed is None:
            return
        samples, seed = self._measurer.timed(candidate.subject), self._config.seed
        mine.update(speed_metrics(samples, "candidate", seed))
        theirs.update(speed_metrics(samples, "reference", seed))
        self._notes += warnings(samples, candidate.size_bytes)

    def _judged(self) -> list[Budget]:
        return [budget for budget in self._config.budgets if self._candidate.deployable or not budget.on_deployable]

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


def _by_name(pairs: list[tuple[Metric, Metric]], side: int) -> dict[str, Metric]:
    return {pair[side].name: pair[side] for pair in pairs}
