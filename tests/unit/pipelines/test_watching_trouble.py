"""A watched folder, and the watch's own memory, that cannot be read or written for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from landings import Landing, landing
from test_store_full_disk import fill_bytes, small_disk

from pipelines.parsing import parse
from pipelines.watching.waking import wake_ups
from pipelines.watching.watcher import Watcher

__all__ = ["landing", "small_disk"]


def test_a_link_that_leads_nowhere_or_to_itself_keeps_no_other_from_being_found(landing: Landing) -> None:
    for name, target in (("gone.gguf", "none"), ("loop.gguf", "loop.gguf")):
        (landing.landing / name).symlink_to(target)
        (landing.landing / f"{name}.done").touch()
    landing.drop("a.gguf", "bytes")

    landing.watcher().step()

    assert landing.announced == ["a.gguf"]
    assert landing.states() == {"a.gguf": "announced"}


def test_an_unreadable_checkpoint_is_said_once_and_keeps_no_other_from_being_found(
    landing: Landing, permissions_hold: None
) -> None:
    closed = landing.drop("closed.gguf", "bytes of another", marker="")
    closed.chmod(0)
    (landing.landing / "closed.gguf.done").touch()
    landing.drop("open.gguf", "bytes")
    watcher = landing.watcher()
    watcher.step()
    watcher.step()
    assert landing.announced == ["open.gguf"]
    assert [line for line in landing.said if "cannot be read" in line] == [
        f"{landing.landing}: cannot be read: closed.gguf: Permission denied"
    ]

    closed.chmod(0o600)
    watcher.step()

    assert landing.states() == {"closed.gguf": "waiting", "open.gguf": "announced"}


def test_an_unreadable_folder_is_said_and_watched_again(landing: Landing, permissions_hold: None) -> None:
    landing.landing.chmod(0)
    watcher = landing.watcher()
    watcher.step()
    landing.landing.chmod(0o700)
    landing.drop("a.gguf", "bytes")
    watcher.step()

    assert landing.said[0] == f"{landing.landing}: cannot be watched: Permission denied"
    assert landing.announced == ["a.gguf"]


def test_a_folder_that_cannot_even_be_asked_for_is_said_and_looked_for_again(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = parse(landing.loaded.path, [f"trigger.folder={'x' * 300}"])
    watcher = Watcher(loaded, landing.home, lambda _: "", landing.said.append)
    monkeypatch.setattr("pipelines.watching.waking.pause", lambda: None)
    for _, _ in zip(range(3), wake_ups(loaded), strict=False):
        watcher.step()

    assert landing.said == [f"{landing.loaded.folder / ('x' * 300)}: cannot be watched: File name too long"]


def test_a_checkpoint_that_a_full_disk_cuts_off_is_not_whole_until_its_writer_says_so(
    landing: Landing, small_disk: Path
) -> None:
    landing.landing.rmdir()
    landing.landing.symlink_to(small_disk)
    watcher = landing.watcher()
    fill_bytes(small_disk, 1)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "a.gguf").write_bytes(bytes(100_000))
    watcher.step()
    assert landing.announced == []

    (small_disk / "filler").unlink()
    landing.drop("a.gguf", "whole")
    watcher.step()

    assert landing.announced == ["a.gguf"]


def test_a_full_disk_of_the_watch_itself_loses_no_checkpoint(landing: Landing, small_disk: Path) -> None:
    landing.home.symlink_to(small_disk)
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    fill_bytes(small_disk, 0)
    watcher.step()
    watcher.step()
    assert landing.announced == []
    assert landing.said == [f"{watcher.ledger.folder}: cannot be written: No space left on device"]

    (small_disk / "filler").unlink()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    assert landing.states() == {"a.gguf": "announced"}


@pytest.mark.parametrize(("age_s", "times"), [(-86_400, 2), (86_400, 2), (10, 1), (-10, 1)])
def test_a_clock_that_jumps_makes_an_announcement_late_at_most_and_loses_nothing(
    landing: Landing, age_s: float, times: int
) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    moment = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(timespec="seconds")
    watcher.ledger.update(watcher.ledger.all()[0].digest, announced=moment)

    watcher.step()

    assert landing.announced == ["a.gguf"] * times
