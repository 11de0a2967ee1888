"""Measurements and verdicts over the dummy target: what is cached, paired, noted and refused."""

from pathlib import Path

import numpy as np
import pytest
from dummies import Bench

from pipelines import measuring, measuring_texts, timing
from pipelines.comparison import suspicious
from pipelines.errors import DataError, ToolFailed
from pipelines.evaluation.scores import Scores
from pipelines.measures import Interval, Report, metric
from pipelines.outcome import Outcome

ANY = "budgets=[{metric: perplexity, max: 1000}]"
SPEED = "evaluation.speed={tokens: 6, pairs: 3, max_pairs: 4, prompt_tokens: [8], precision: 0.9}"
TASK = "evaluation.tasks={far: {data: {path: task.json, reader: multiple-choice}}}"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(timing, "memory_bandwidth_gb_s", lambda _: 20.0)  # it reads half a gigabyte
    return Bench(tmp_path)


def report(outcome: Outcome, step: int = 1) -> Report:
    found = outcome.record.stages[step].report
    assert found is not None
    return found


def write_task(bench: Bench, prompt: str) -> None:
    example = '{"input": "%s", "target_scores": {"yes": 1, "no": 0}}'
    text = ", ".join(example % f"{prompt} {number}" for number in range(4))
    (bench.folder / "task.json").write_text('{"examples": [%s]}' % text)  # noqa: UP031


def test_candidate_in_the_references_own_artifact_is_measured_with_its_own_fields(bench: Bench) -> None:
    outcome = bench.run("steps.dummy.delay_s=0.003", ANY, SPEED)

    assert outcome.record.stages[0].artifact == outcome.record.stages[1].artifact
    ratio = report(outcome).metrics["speed_ratio"]
    assert ratio.high < 0.7, "the copy has the reference's digest, but generates slower"


def test_second_run_takes_every_measurement_from_the_store(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(bench, "is it far?")
    first = bench.run("steps.dummy.noise=0.3", ANY, SPEED, TASK)

    def refuse(*_: object) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr(measuring.Sessions, "of", refuse)
    second = bench.run("steps.dummy.noise=0.3", ANY, SPEED, TASK)

    assert report(second) == report(first)
    assert set(report(first).metrics) >= {"perplexity", "exact_match", "accuracy_far", "tbt_p50_ms", "size_bytes"}


def test_reference_is_scored_once_for_all_candidates(bench: Bench) -> None:
    outcome = bench.run("steps=[{dummy: {noise: 0.1}}, {dummy: {noise: 0.2}}]", ANY)

    one, other = report(outcome, 1), report(outcome, 2)
    was = [item.value - item.change.value for r in (one, other) if (item := r.metrics["perplexity"]).change]
    assert was[0] == pytest.approx(was[1])
    assert one.metrics["kl_divergence"].value < other.metrics["kl_divergence"].value


def test_context_is_as_long_as_the_longest_question(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(bench, "why? " * 200)
    lengths: list[int] = []
    opened = measuring.Sessions.of

    def of(self: measuring.Sessions, subject: measuring.Subject, context_length: int) -> object:
        lengths.append(context_length)
        return opened(self, subject, context_length)

    monkeypatch.setattr(measuring.Sessions, "of", of)
    outcome = bench.run(ANY, TASK)

    assert outcome.error is None
    assert lengths[0] == 512 + measuring_texts.CONTEXT_MARGIN
    assert set(lengths[1:]) == {len("Q: " + "why? " * 200 + " 0\nA: yes") + measuring_texts.CONTEXT_MARGIN}


def test_text_that_fills_fewer_windows_than_asked_for_is_noted(bench: Bench) -> None:
    (bench.folder / "text.txt").write_text("the quick brown fox " * 10)

    outcome = bench.run("evaluation.perplexity.windows=16", ANY)

    assert report(outcome).notes == ("the evaluation text fills only 3 of 16 windows",)
    assert report(outcome).metrics["perplexity"].n == 3


def test_text_too_short_for_the_prompts_is_the_users_mistake(bench: Bench) -> None:
    (bench.folder / "text.txt").write_text("ten tokens")

    outcome = bench.run("evaluation.perplexity=null", "budgets=[{metric: exact_match, min: 0}]")

    assert isinstance(outcome.error, DataError)
    assert outcome.error.message == "evaluation text: 10 tokens are too few for 3 prompts of 8"


def test_model_that_gives_no_numbers_is_a_tools_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Scores.load

    def spoilt(path: Path) -> Scores:
        scores = load(path)
        scores.logp[0, :5] = np.nan
        return scores

    monkeypatch.setattr(Scores, "load", spoilt)
    outcome = bench.run(ANY)

    assert isinstance(outcome.error, ToolFailed)
    assert outcome.error.message == "dummy: the model's log-probabilities are not finite at 5 of 252 tokens"
    assert outcome.record.bundle is None


def test_doubt_that_remains_is_noted(bench: Bench) -> None:
    settled = report(bench.run("steps.dummy.noise=0.2", ANY, "evaluation.perplexity.windows=16"))
    relative = settled.metrics["perplexity"].relative
    assert relative is not None

    limit = f"budgets=[{{metric: perplexity, max_regression: {relative.value}, relative: true}}]"
    outcome = bench.run("steps.dummy.noise=0.2", limit, "evaluation.perplexity.windows=16")

    assert "a verdict is still inconclusive after all 16 windows" in report(outcome).notes
    assert outcome.record.stages[1].verdicts[0].flagged


def test_other_budgets_are_judged_anew_on_the_same_measurements(bench: Bench) -> None:
    kept, broken = (
        bench.run("steps.dummy.noise=1.0", f"budgets=[{{metric: perplexity, max: {most}}}]") for most in (99, 1)
    )

    assert report(kept).metrics == report(broken).metrics
    assert (kept.record.status, broken.record.status) == ("passed", "halted")


@pytest.mark.parametrize(
    ("name", "low", "high", "told"),
    [
        ("perplexity", -0.05, -0.01, ["suspicious gain: perplexity is 3.00% better than the reference's"]),
        ("perplexity", -0.05, 0.01, []),
        ("perplexity", 0.01, 0.05, []),
        ("accuracy_siqa", 0.01, 0.05, ["suspicious gain: accuracy_siqa is 3.00% better than the reference's"]),
        ("accuracy_siqa", -0.05, -0.01, []),
        ("size_bytes", -0.8, -0.7, []),
    ],
)
def test_quality_better_than_the_references_beyond_its_interval_is_suspicious(
    name: str, low: float, high: float, told: list[str]
) -> None:
    change = Interval(value=(low + high) / 2, low=low, high=high)
    measured = metric(name, change, 16, "", change, change)

    assert suspicious({name: measured}) == told
