"""Pauses between attempts on a checkpoint, and the way back for one that was decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commanding import Command, home, tapeout
from landings import Landing, landing

from pipelines.errors import UserError
from pipelines.watching.ledger import Ledger, State

__all__ = ["home", "landing", "tapeout"]


def fail(landing: Landing, attempts: int, age_s: float, reason: str = "the store is away\nfor a while") -> None:
    """As an attempt leaves it that failed so many seconds ago."""
    ledger = Ledger(landing.home, "small")
    digest = ledger.all()[0].digest
    ledger.failed(ledger.update(digest, attempts=attempts), reason)
    ledger.update(digest, failed=(datetime.now(UTC) - timedelta(seconds=age_s)).isoformat())


@pytest.mark.parametrize(("attempts", "age_s", "starts"), [(1, 58, 1), (1, 61, 2), (2, 290, 1), (2, 301, 2)])
def test_a_failed_checkpoint_is_tried_again_after_a_minute_and_then_after_five(
    landing: Landing, attempts: int, age_s: float, starts: int
) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    fail(landing, attempts, age_s)

    landing.watcher().step()

    assert landing.announced == ["a.gguf"] * starts


def test_a_pause_is_said_once_and_holds_up_those_behind_it(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    fail(landing, 1, 0.1)
    landing.drop("b.gguf", "other bytes")
    watcher.step()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    assert [line for line in landing.said if "in 60 s" in line] == [
        "a.gguf: attempt 2 in 60 s, after: the store is away"
    ]


@pytest.mark.parametrize(("age_s", "starts"), [(86_400, 2), (-86_400, 2), (-30, 1)])
def test_a_clock_that_jumps_makes_a_pause_shorter_or_twice_as_long(landing: Landing, age_s: float, starts: int) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    fail(landing, 1, age_s)

    landing.watcher().step()

    assert landing.announced == ["a.gguf"] * starts


def test_an_interrupted_attempt_is_followed_by_no_pause(landing: Landing) -> None:
    landing.drop("a.gguf", "bytes")
    watcher = landing.watcher()
    watcher.step()
    watcher.ledger.update(watcher.ledger.all()[0].digest, state="waiting", attempts=0, reason="interrupted")

    watcher.step()

    assert landing.announced == ["a.gguf"] * 2


def test_without_a_pause_the_next_attempt_comes_at_once(tmp_path: Path) -> None:
    landing = Landing(tmp_path, "{folder: landing, marker: .done, retry_after_s: 0}")
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    fail(landing, 1, 0)

    landing.watcher().step()

    assert landing.announced == ["a.gguf"] * 2


@pytest.mark.parametrize("state", ["halted", "aside", "replaced"])
def test_what_was_decided_starts_from_the_first_attempt_when_it_is_retried(
    tapeout: Command, landing: Landing, state: State
) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    fail(landing, 3, 0)
    landing.decide(state=state)
    digest = Ledger(landing.home, "small").all()[0].digest

    ended = tapeout("watch", landing.loaded.path, "--retry", digest[:7].upper())
    landing.watcher().step()

    assert (ended.code, ended.out) == (0, f"a.gguf: open again; `tapeout watch {landing.loaded.path}` starts it\n")
    assert landing.announced == ["a.gguf"] * 2
    (known,) = Ledger(landing.home, "small").all()
    assert (known.state, known.attempts) == ("announced", 0)


def test_what_cannot_be_retried_lists_what_can(tapeout: Command, landing: Landing) -> None:
    ledger = Ledger(landing.home, "small")
    for digest, state in (("a1", "passed"), ("a2", "aside"), ("a3", "halted"), ("b1", "waiting")):
        ledger.add(digest, f"{digest}.gguf", ())
        ledger.update(digest, state=state)
    can = "a2  aside     a2.gguf\na3  halted    a3.gguf"

    ended = tapeout("watch", landing.loaded.path, "--retry", "a1")

    assert (ended.code, ended.err.strip()) == (
        2,
        f"a1: the digest of no checkpoint that can be tried again begins so\n\nhint: {can}",
    )
    with pytest.raises(UserError) as caught:
        ledger.reopen("a")
    assert str(caught.value) == f"a: the digests of 2 checkpoints that can be tried again begin so\n\nhint: {can}"
    assert [known.state for known in ledger.all()] == ["passed", "aside", "halted", "waiting"]


def test_where_nothing_can_be_retried_that_is_the_hint(landing: Landing) -> None:
    with pytest.raises(UserError, match="hint: none was halted, set aside or replaced"):
        Ledger(landing.home, "small").reopen("a")
