"""Fetching as the flow does it, with the bars written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.errors import SourceError
from pipelines.fields.source import Source
from pipelines.progress import Silent
from pipelines.sources import Fetched, fetch


def fetched(source: Source, into: Path) -> Fetched:
    return fetch(source, into, into.parent, Silent())


def failure(source: Source, into: Path) -> SourceError:
    """What is said of a source that cannot be had; nothing is left in the folder."""
    with pytest.raises(SourceError) as caught:
        fetched(source, into)
    assert list(into.iterdir()) == []
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class Drawn(Silent):
    """The last state of every bar: what, done, total."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, float, float | None]] = []

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "") -> Iterator[DrawnBar]:
        assert unit == "bytes"
        drawn = DrawnBar(total)
        yield drawn
        self.bars.append((what, drawn.done, drawn.total))


class DrawnBar:
    def __init__(self, total: float | None) -> None:
        self.done, self.total, self.doing = 0.0, total, ""

    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        assert done >= self.done
        self.done, self.total, self.doing = done, total or self.total, what or self.doing
