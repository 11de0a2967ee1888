from pathlib import Path
from typing import NoReturn

import pytest
from dummies import Bench

from pipelines.errors import BudgetExceeded, DataError, InputRejected
from pipelines.outcome import Outcome
from pipelines.process import Learning, ignore
from pipelines.records import StageRecord
from pipelines.requests import Learnt, RunRequest
from pipelines.runner import InlineRunner
from pipelines.store import Store
from pipelines.tracking.tracker import NullTracker
from stages.base import Produced


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def digests(outcome: Outcome) -> list[str | None]:
    return [stage.artifact for stage in outcome.record.stages]


def test_run_within_budget_passes_and_is_packaged(bench: Bench) -> None:
    outcome = bench.run()

    assert outcome.error is None
    assert outcome.record.status == "passed"
    assert outcome.record.bundle is not None
    assert (outcome.record.bundle / "manifest.json").is_file()


def test_its_report_says_how_long_it_took(bench: Bench) -> None:
    outcome = bench.run("steps.dummy.delay_s=0.1")

    assert outcome.record.bundle is not None
    assert " UTC, 0.0 s, on " not in (outcome.record.bundle / "report.md").read_text()
    report = outcome.record.stages[1].report
    assert report is not None
    assert report.metrics["perplexity"].relative is not None
    assert report.metrics["perplexity"].relative.value == 0
    assert report.metrics["top1_agreement"].value == 1
    assert report.metrics["kl_divergence"].value == 0


def test_run_over_budget_halts_at_the_stage_that_broke_it_and_packages_nothing(bench: Bench) -> None:
    outcome = bench.run("steps=[dummy, {dummy: {noise: 1.5}}, dummy]")

    assert isinstance(outcome.error, BudgetExceeded)
    assert "perplexity rose" in outcome.error.message
    assert "allowed 5%) after dummy" in outcome.error.message
    assert [stage.status for stage in outcome.record.stages] == ["completed", "completed", "halted"]
    assert outcome.record.last_passed == outcome.record.stages[1].artifact
    assert outcome.record.bundle is None
    assert not (bench.folder / "dist").exists()


def test_second_run_recomputes_nothing_and_reports_the_same(bench: Bench) -> None:
    first, second = bench.run("steps.dummy.noise=0.01"), bench.run("steps.dummy.noise=0.01")

    assert [stage.cached for stage in first.record.stages] == [False, False]
    assert [stage.cached for stage in second.record.stages] == [True, True]
    assert [stage.report for stage in second.record.stages] == [stage.report for stage in first.record.stages]


def test_tracker_hears_of_a_training_while_the_stage_runs(bench: Bench) -> None:
    heard: list[object] = []

    class Training(InlineRunner):
        def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
            learning(Learnt(step=5, values={"train_loss": 0.5}))
            heard.append("trained")
            return super().run(request, log, timeout_s, learning)

    class Hearing(NullTracker):
        def learning(self, *point: object) -> None:
            heard.append(point)

        def stage(self, record: StageRecord) -> None:
            heard.append(record.index)

    bench.pipeline(runner=Training(), tracker=Hearing()).run()

    assert heard == [(1, "dummy", 5, {"train_loss": 0.5}), "trained", 1]


def test_tracker_hears_of_every_stage_once_and_whole(bench: Bench) -> None:
    heard: list[StageRecord] = []

    class Hearing(NullTracker):
        def stage(self, record: StageRecord) -> None:
            heard.append(record)

    outcome = bench.run("steps=[dummy, {dummy: {noise: 0.01}}]", tracker=Hearing())

    assert [record.index for record in heard] == [1, 2, 0]  # the reference last: each candidate adds to its report
    assert {record.index: record for record in heard} == dict(enumerate(outcome.record.stages))
    assert all(record.report for record in heard)


def test_seed_and_fields_are_new_keys(bench: Bench) -> None:
    first = bench.run("steps.dummy.noise=0.01")
    reseeded, renoised = bench.run("steps.dummy.noise=0.01", "seed=7"), bench.run("steps.dummy.noise=0.02")

    assert len({digests(first)[1], digests(reseeded)[1], digests(renoised)[1]}) == 3


def test_changed_evaluation_text_is_measured_again(bench: Bench) -> None:
    first = bench.run("steps.dummy.noise=0.3", "budgets=[{metric: perplexity, max: 1000}]")
    (bench.folder / "text.txt").write_text("zebras x-ray quite jovial vexing wizards. " * 200)
    second = bench.run("steps.dummy.noise=0.3", "budgets=[{metric: perplexity, max: 1000}]")

    assert second.record.stages[1].cached
    assert first.record.stages[1].report != second.record.stages[1].report


def test_failure_is_not_cached(bench: Bench) -> None:
    failed = bench.run("steps.dummy.fail=refuse")
    entries = Store(bench.home / "store").ls()

    assert isinstance(failed.error, InputRejected)
    assert str(failed.error) == "`dummy`: the dummy was told to refuse\n\nhint: set `fail` to nothing"
    assert failed.record.status == "failed"
    assert failed.record.stages[-1].status == "failed"
    assert [entry.stage for entry in entries] == ["source"]


def test_inconclusive_verdict_draws_more_windows(bench: Bench) -> None:
    settled = bench.run("steps.dummy.noise=0.2", "budgets=[{metric: perplexity, max: 1000}]")
    measured = settled.record.stages[1].report
    assert measured is not None
    relative = measured.metrics["perplexity"].relative
    assert relative is not None
    limit = (relative.value + relative.high) / 2

    outcome = bench.run(
        "steps.dummy.noise=0.2", f"budgets=[{{metric: perplexity, max_regression: {limit}, relative: true}}]"
    )

    report = outcome.record.stages[1].report
    assert report is not None
    assert report.metrics["perplexity"].n > measured.metrics["perplexity"].n == 4


def test_text_shorter_than_two_windows_is_an_error(bench: Bench) -> None:
    (bench.folder / "text.txt").write_text("too short")

    outcome = bench.run()

    assert isinstance(outcome.error, DataError)
    assert outcome.error.message == "evaluation text: 9 tokens are less than two windows of 64"


def test_interrupted_run_leaves_a_clean_store(bench: Bench) -> None:
    class Interrupted(InlineRunner):
        def open(self, *_: object) -> NoReturn:
            raise KeyboardInterrupt

    outcome = bench.run(runner=Interrupted())

    assert outcome.record.status == "interrupted"
    assert not list((bench.home / "store" / "work").iterdir())
    assert bench.run().record.status == "passed"
