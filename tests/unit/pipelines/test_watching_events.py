"""The event of a checkpoint: sent, not taken, not answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from landings import Landing, landing

from pipelines.watching.event import emit, waits
from pipelines.watching.ledger import Ledger

__all__ = ["landing"]


def test_a_server_that_does_not_take_the_event_is_told_again(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    landing.problem = "Prefect does not take the event"
    watcher.step()
    assert landing.states() == {"a.gguf": "waiting"}

    landing.problem = ""
    watcher.step()

    assert landing.announced == ["a.gguf", "a.gguf"]
    assert landing.states() == {"a.gguf": "announced"}


def test_prefect_that_is_away_is_a_reason(landing: Landing) -> None:
    known = Ledger(landing.home, "small").add("d", "a", ())
    assert known is not None

    assert emit("http://127.0.0.1:9/api", "small", known) == (
        "Prefect at http://127.0.0.1:9/api does not take the event: [Errno 111] Connection refused"
    )


def test_an_event_that_nothing_answers_is_sent_ever_more_rarely(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    times = []
    for minutes in (3, 3, 5, 5, 9, 61, 59):
        moment = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")
        watcher.ledger.update(watcher.ledger.all()[0].digest, announced=moment)
        watcher.step()
        times.append(len(landing.announced))

    assert times == [2, 2, 3, 3, 4, 5, 6]
    assert "tapeout deploy" in landing.said[-2]


def test_prefect_that_cannot_be_asked_is_said_once_and_no_event_is_sent(landing: Landing) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    watcher = landing.watcher(partial(waits, "http://127.0.0.1:9/api", "small"))
    watcher.ledger.update(watcher.ledger.all()[0].digest, announced="2026-01-01T00:00:00+00:00")

    watcher.step()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    assert [line for line in landing.said if "asked" in line] == [
        "Prefect at http://127.0.0.1:9/api cannot be asked for flow_runs: [Errno 111] Connection refused"
    ]
