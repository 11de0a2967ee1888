"""A run whose result has a draft model, over the dummy target: bigram models that take their time or take none."""

from pathlib import Path

import pytest
from dummies import Bench

from pipelines import measuring, same_tokens, timing
from pipelines.errors import BudgetExceeded, DataError, InputRejected, ToolFailed
from pipelines.manifest import read_manifest
from pipelines.measures import DRAFTING, Report
from pipelines.outcome import Outcome
from pipelines.reporting import report
from targets.base import Speculated, Tie, Tokens
from targets.dummy import DummySession

ANY = "budgets=[{metric: perplexity, max: 1000}]"
SPEED = "evaluation.speed={tokens: 6, pairs: 3, max_pairs: 4, prompt_tokens: [8], precision: 0.9}"
DRAFT = "draft={tokens: 3, prompts: 3, prompt_tokens: 8, generated: 13}"
WRONG = "draft={steps: [{dummy: {noise: 50}}], tokens: 3, prompts: 3, prompt_tokens: 8, generated: 13}"
SLOW = "steps.dummy.delay_s=0.01"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(timing, "memory_bandwidth_gb_s", lambda _: 20.0)  # it reads half a gigabyte
    return Bench(tmp_path)


def measured(outcome: Outcome) -> Report:
    assert outcome.error is None
    found = outcome.record.stages[-1].report
    assert found is not None
    return found


def test_a_draft_that_is_always_right_is_a_gain_and_told_so(bench: Bench) -> None:
    found = measured(bench.run(SLOW, ANY, SPEED, DRAFT))

    metrics = found.metrics
    assert metrics["draft_acceptance"].value == 1
    assert metrics["draft_tokens_per_step"].value == 13 / 4
    assert metrics["draft_exact_match"].value == 1
    assert metrics["draft_speedup"].value > 1.5, "4 passes in place of 13"
    relative = metrics["draft_tokens_per_s"].relative
    assert relative is not None
    assert relative.value == pytest.approx(
        metrics["draft_tokens_per_s"].value / metrics["undrafted_tokens_per_s"].value - 1
    )
    assert any("it pays; 100.0% of 3 tokens a step accepted" in note for note in found.notes)


def test_a_draft_that_is_wrong_is_no_gain_and_the_output_is_the_models_own(bench: Bench) -> None:
    found = measured(bench.run(SLOW, ANY, SPEED, WRONG))

    metrics = found.metrics
    assert metrics["draft_acceptance"].value < 0.5
    assert metrics["draft_exact_match"].value == 1
    assert metrics["draft_speedup"].low < 1.5
    assert not any("it pays" in note and metrics["draft_speedup"].low <= 1 for note in found.notes)


def test_only_the_result_is_measured_with_the_draft(bench: Bench) -> None:
    outcome = bench.run("steps=[dummy, {dummy: {delay_s: 0.001}}]", ANY, SPEED, DRAFT)

    reports = [stage.report for stage in outcome.record.stages]
    assert [DRAFTING & set(found.metrics) for found in reports if found] == [set(), set(), DRAFTING]


def test_without_a_draft_nothing_of_it_is_measured(bench: Bench) -> None:
    outcome = bench.run(SLOW, ANY, SPEED)

    assert not DRAFTING & set(measured(outcome).metrics)
    assert outcome.record.draft == ()
    assert "Speculative decoding" not in report.markdown(outcome.record)


def test_what_made_it_is_recorded_and_reported(bench: Bench) -> None:
    outcome = bench.run(SLOW, ANY, SPEED, WRONG)

    assert [stage.stage for stage in outcome.record.draft] == ["source", "dummy"]
    assert [stage.stage for stage in outcome.record.stages] == ["source", "dummy"]
    text = report.markdown(outcome.record)
    assert f"artifact `{outcome.record.draft[-1].artifact}`" in text.partition("## Speculative decoding")[2]
    assert "| tokens/s without the draft |" in text
    assert "| dummy, draft |" in text
    assert outcome.record.bundle is not None
    assert set(read_manifest(outcome.record.bundle).metrics) >= DRAFTING


def test_a_second_run_measures_nothing_and_another_draft_does(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.run(SLOW, ANY, SPEED, DRAFT)
    more = bench.run(SLOW, ANY, SPEED, DRAFT, "draft.tokens=2")
    monkeypatch.setattr(measuring.Sessions, "of", lambda *_: pytest.fail("a session was opened"))
    second = bench.run(SLOW, ANY, SPEED, DRAFT)

    assert measured(second) == measured(first)
    assert measured(more).metrics["draft_tokens_per_step"] != measured(first).metrics["draft_tokens_per_step"]


def test_a_budget_on_the_gain_is_judged(bench: Bench) -> None:
    outcome = bench.run(SLOW, SPEED, DRAFT, "budgets=[{metric: draft_speedup, min: 100}]")

    assert isinstance(outcome.error, BudgetExceeded)
    assert outcome.error.message.startswith("draft_speedup")
    assert outcome.record.bundle is None


def test_another_tokenizer_is_an_error_before_anything_is_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_tokens, "told_apart", lambda *_: "token 7 is 'a' in the source and 'b' here")
    monkeypatch.setattr(measuring.Sessions, "of", lambda *_: pytest.fail("a session was opened"))

    outcome = bench.run(ANY, SPEED, WRONG)

    assert isinstance(outcome.error, InputRejected)
    assert outcome.error.message == (
        "the draft model's tokenizer is another than the reference's: token 7 is 'a' in the source and 'b' here"
    )
    assert outcome.record.draft[-1].stage == "dummy"


def test_more_prompts_than_the_text_has_is_an_error(bench: Bench) -> None:
    outcome = bench.run(ANY, SPEED, DRAFT, "draft.prompt_tokens=20000")

    assert isinstance(outcome.error, DataError)
    assert "too few for 3 prompts of 20000" in outcome.error.message
    assert outcome.error.hint == "give a longer text, or fewer or shorter prompts in `draft`"


def test_a_draft_that_cannot_be_made_ends_the_run_and_is_recorded(bench: Bench) -> None:
    outcome = bench.run(ANY, SPEED, WRONG, "draft.steps.dummy.fail=refuse")

    assert isinstance(outcome.error, InputRejected)
    assert outcome.record.draft[-1].status == "failed"
    assert "told to refuse" in outcome.record.draft[-1].message


@pytest.fixture
def unfaithful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third token of every output with a draft is another one."""
    speculate = DummySession.speculate

    def other(session: DummySession, prompt: Tokens, n: int) -> Speculated:
        made = speculate(session, prompt, n)
        tokens = (*made.tokens[:2], (made.tokens[2] + 1) % 64, *made.tokens[3:])
        return Speculated(tokens, made.seconds, made.drafted, made.accepted, made.steps)

    monkeypatch.setattr(DummySession, "speculate", other)


@pytest.mark.usefixtures("unfaithful")
def test_an_output_that_is_not_the_models_own_is_an_error_with_its_place(bench: Bench) -> None:
    outcome = bench.run(ANY, SPEED, DRAFT)

    assert isinstance(outcome.error, ToolFailed)
    assert outcome.error.exit_code == 3
    assert outcome.error.message.startswith("token 3 after prompt 1 is ")
    assert outcome.record.bundle is None


@pytest.mark.usefixtures("unfaithful")
@pytest.mark.parametrize(("noise", "passes"), [(0.49, False), (0.51, True)])
def test_where_rounding_decides_the_output_may_part(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, noise: float, passes: bool
) -> None:
    asked: list[list[int]] = []

    def tie(_: DummySession, sequence: Tokens, prompt: int, one: int, other: int) -> Tie:
        asked.append([len(sequence), prompt, other - one])
        return Tie(gap=1.0, noise=noise)

    monkeypatch.setattr(DummySession, "tie", tie)
    outcome = bench.run(ANY, SPEED, DRAFT)

    assert (outcome.error is None) == passes
    assert asked[0][:2] == [10, 8]
    if passes:
        found = measured(outcome)
        assert found.metrics["draft_exact_match"].value == 0
        assert sum("a tie, so that either is the model's own" in note for note in found.notes) == 3
