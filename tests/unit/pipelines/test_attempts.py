"""How a run decides the checkpoint that it was started for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dummies import Bench
from landings import Landing, landing
from tracks import Answering

from pipelines.errors import BudgetExceeded, UserError
from pipelines.launch import Choices, Found, launch_checkpoint
from pipelines.outcome import Outcome
from pipelines.tracking.lines import UNANSWERED, Tracked
from pipelines.watching.attempt import attempt
from pipelines.watching.ledger import Checkpoint, Ledger

__all__ = ["landing"]


@pytest.fixture
def attempted(tmp_path: Path) -> tuple[Bench, Ledger, Checkpoint]:
    bench = Bench(tmp_path)
    ledger = Ledger(bench.home, "dummy")
    added = ledger.add("d" * 64, "step-1", ("steps.dummy.noise=0.01",))
    assert added is not None
    return bench, ledger, added


def run(bench: Bench, *more: str) -> Callable[[tuple[str, ...]], Outcome]:
    return lambda overrides: bench.run(*overrides, *more)


def test_a_checkpoint_that_passed_is_not_run_again(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    outcome = attempt(ledger, new.digest, run(bench))
    assert outcome is not None
    assert outcome.record.status == "passed"
    assert attempt(ledger, new.digest, run(bench)) is None
    assert (ledger.all()[0].state, ledger.all()[0].attempts) == ("passed", 1)


def test_a_budget_halt_decides_a_checkpoint_with_its_reason(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    outcome = attempt(ledger, new.digest, run(bench, "steps.dummy.noise=1.5"))

    assert outcome is not None
    assert isinstance(outcome.error, BudgetExceeded)
    assert ledger.all()[0].state == "halted"
    assert ledger.all()[0].reason == outcome.error.message
    assert attempt(ledger, new.digest, run(bench)) is None


def test_three_failures_set_a_checkpoint_aside_with_the_reason(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    states = []
    for _ in range(4):
        attempt(ledger, new.digest, run(bench, "steps.dummy.fail=refuse"))
        states.append(ledger.all()[0].state)

    assert states == ["waiting", "waiting", "aside", "aside"]
    assert (ledger.all()[0].attempts, ledger.all()[0].reason) == (3, "`dummy`: the dummy was told to refuse")


@pytest.mark.parametrize(
    ("tracked", "reason"),
    [
        (Tracked(problem="away"), "the version could not be registered"),
        (Tracked(model_version="dummy/1", not_promoted=UNANSWERED), "the registry did not answer"),
    ],
)
def test_a_pass_that_the_registry_did_not_take_is_tried_again(
    attempted: tuple[Bench, Ledger, Checkpoint], tracked: Tracked, reason: str
) -> None:
    bench, ledger, new = attempted

    def carry_out(answer: Tracked) -> Callable[[tuple[str, ...]], Outcome]:
        promotes = "promotion={metric: perplexity}"
        return lambda overrides: bench.run(*overrides, promotes, tracker=Answering(answer))

    first = attempt(ledger, new.digest, carry_out(tracked))
    (known,) = ledger.all()
    assert (known.state, known.attempts, known.reason) == ("waiting", 1, f"passed, but {reason}")
    assert first is not None
    assert first.record.promotion is not None
    assert (first.record.promotion.decision, first.record.promotion.reason) == ("kept", reason)

    second = attempt(ledger, new.digest, carry_out(Tracked(model_version="dummy/1")))
    assert second is not None
    assert second.record.promotion is not None
    assert second.record.promotion.decision == "promoted"
    assert all(stage.cached for stage in second.record.stages)
    assert (ledger.all()[0].state, ledger.all()[0].reason) == ("passed", "")


def test_a_config_that_is_gone_is_an_attempt_and_the_third_sets_aside(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEOUT_HOME", str(landing.home))
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    (known,) = watcher.ledger.all()
    landing.loaded.path.unlink()

    states = []
    for _ in range(3):
        with pytest.raises(UserError, match="cannot be read"):
            launch_checkpoint(landing.loaded.path, (), Found(known.digest, lambda: "small"), Choices(tmp_path), None)
        states.append(watcher.ledger.all()[0].state)

    assert states == ["waiting", "waiting", "aside"]
    assert "a.yaml: cannot be read: No such file or directory" in watcher.ledger.all()[0].reason


def test_a_checkpoint_in_another_runs_hands_is_left_to_it(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    with ledger.claimed(new.digest) as known:
        assert known == new
        assert attempt(ledger, new.digest, run(bench)) is None
