"""Comparing language models: quality first, with more windows while a verdict is in doubt."""

from __future__ import annotations

from pipelines.comparison import Comparer, Metrics
from pipelines.errors import ToolFailed
from pipelines.evaluation.accuracy import accuracy
from pipelines.evaluation.agreement import exact_match, kl_divergence, self_agreement, top1_agreement
from pipelines.evaluation.drafting import draft_metrics, draft_notes
from pipelines.evaluation.perplexity import perplexity
from pipelines.evaluation.scores import Scores
from pipelines.evaluation.speed import size_metric, speed_metrics, warnings
from pipelines.measures import Metric
from pipelines.measuring_texts import TextMeasurer, loaded
from pipelines.storage.objects import size_of


class TextComparer(Comparer[TextMeasurer]):
    """One language model's comparison with the reference."""

    def _quality(self) -> tuple[Metrics, Metrics]:
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

    def _in_doubt(self, metrics: Metrics) -> bool:
        report = self._report(metrics)
        drawn = {"perplexity", "top1_agreement", "kl_divergence"}
        judged = [budget for budget in self._config.budgets if budget.metric in drawn]
        return any(budget.judge(report).decision == "inconclusive" for budget in judged)

    def _speed(self, mine: Metrics, theirs: Metrics) -> None:
        candidate = self._candidate
        mine["size_bytes"] = size_metric(candidate.size_bytes, candidate.reference_bytes)
        theirs["size_bytes"] = size_metric(candidate.reference_bytes, None)
        if self._config.evaluation.speed is None:
            return
        samples, seed = self._measurer.timed(candidate.subject), self._config.seed
        mine.update(speed_metrics(samples, "candidate", seed))
        theirs.update(speed_metrics(samples, "reference", seed))
        self._notes += warnings(samples, candidate.size_bytes)
        if candidate.draft is not None:
            drafted = self._measurer.drafted(candidate.subject, candidate.draft)
            metrics = draft_metrics(drafted, size_of(candidate.draft.path), seed)
            mine.update(metrics)
            self._notes += draft_notes(drafted, metrics)


def _by_name(pairs: list[tuple[Metric, Metric]], side: int) -> Metrics:
    return {pair[side].name: pair[side] for pair in pairs}
