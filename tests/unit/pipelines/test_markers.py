"""A marker makes a checkpoint whole if it was written after it, and once."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from pipelines.errors import SourceError
from pipelines.watching.finding import FolderFinder
from pipelines.watching.trigger import FolderTrigger

TICK_S = 0.02
"""Longer than the kernel's clock stands still between two ticks."""


class Drop:
    """A watched folder with one checkpoint in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.marker = folder, folder / "latest.onnx", folder / "latest.onnx.done"

    def finder(self, quiet_s: float = 10) -> FolderFinder:
        return FolderFinder(FolderTrigger(folder=self.folder, marker=".done", quiet_s=quiet_s), self.folder)

    def write(self, content: str) -> None:
        time.sleep(TICK_S)
        self.file.write_text(content)

    def mark(self) -> None:
        time.sleep(TICK_S)
        self.marker.touch()


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    found = Drop(tmp_path)
    found.write("whole")
    found.mark()
    return found


def names(finder: FolderFinder) -> list[str]:
    return [found.name for found in finder.look()]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_marker_of_what_was_there_before_counts_for_nothing(drop: Drop, restarted: bool) -> None:
    finder = drop.finder()
    assert names(finder) == ["latest.onnx"]
    drop.write("half of the n")
    finder = drop.finder() if restarted else finder
    assert names(finder) == []

    drop.write("half of the next one, and the rest")
    drop.mark()

    assert names(finder) == ["latest.onnx"]


def test_not_even_where_a_copy_keeps_an_old_time(drop: Drop, tmp_path: Path) -> None:
    old = tmp_path / ".older"
    old.write_text("of last year")
    os.utime(old, (1, 1))
    time.sleep(TICK_S)
    shutil.copy2(old, drop.file)

    assert names(drop.finder()) == []


def test_a_marker_whose_copy_keeps_an_old_time_counts(drop: Drop) -> None:
    drop.write("copied by rsync -a")
    drop.mark()
    os.utime(drop.file, (1000, 1000))
    os.utime(drop.marker, (1, 1))

    assert names(drop.finder()) == ["latest.onnx"]


def test_a_marker_in_the_same_tick_as_the_last_byte_counts(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = drop.finder()
    monkeypatch.setattr("pipelines.watching.content._changed_ns", lambda _: 1)
    assert names(finder) == ["latest.onnx"]

    drop.write("the next one")

    assert names(finder) == ["latest.onnx"]


def test_a_clock_that_is_set_back_does_not_renew_a_marker(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = drop.finder()
    assert names(finder) == ["latest.onnx"]
    drop.write("half of the n")
    monkeypatch.setattr("pipelines.watching.finding.changed_ns", lambda *_: 1)

    assert names(finder) == []


def test_rights_that_change_later_want_no_new_marker(drop: Drop) -> None:
    finder = drop.finder()
    for _ in finder.look():
        break  # as where it cannot be read
    time.sleep(TICK_S)
    drop.file.chmod(0o600)

    assert names(finder) == ["latest.onnx"]
    assert names(drop.finder()) == [], "which this one cannot know"


def test_a_link_that_is_turned_to_another_file_wants_its_marker_again(drop: Drop) -> None:
    drop.file.rename(drop.folder / ".one")
    (drop.folder / ".other").write_text("of another size")
    drop.file.symlink_to(".one")
    drop.mark()
    finder = drop.finder()
    assert names(finder) == ["latest.onnx"]
    time.sleep(TICK_S)
    drop.file.unlink()
    drop.file.symlink_to(".other")
    assert names(finder) == []

    drop.mark()

    assert names(finder) == ["latest.onnx"]


def test_a_folder_whose_files_are_exchanged_wants_its_marker_again(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    folder.mkdir()
    for name in ("config", "weights", ".done"):
        (folder / name).write_text("of the first")
    finder = FolderFinder(FolderTrigger(folder=tmp_path, marker=".done"), tmp_path)
    assert names(finder) == ["latest"]
    time.sleep(TICK_S)
    (folder / "weights").write_text("of the second one")
    assert names(finder) == []

    time.sleep(TICK_S)
    (folder / ".done").touch()

    assert names(finder) == ["latest"]


def test_a_marker_that_stays_older_is_told(drop: Drop) -> None:
    drop.write("its writer forgot the marker")

    with pytest.raises(SourceError) as caught:
        names(drop.finder(quiet_s=0))

    assert caught.value.message == f"{drop.folder}: changed after the marker was written, write it again: latest.onnx"
    assert names(drop.finder()) == [], "a writer at work is no trouble"
