"""Progress of long work: one bar at a time on standard error, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One piece of long work."""

    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        """Set how much is done, in the bar's unit."""
        ...


class Progress(Protocol):
    """Where bars are drawn."""

    def bar(self, what: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Bar]:
        """A bar for the length of a `with` block; `unit` is "bytes" or the noun of what is counted."""
        ...

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        ...


class Silent:
    """Draws nothing: the progress of tests and of `--quiet`."""

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
        """A bar that nobody sees."""
        yield _NoBar()

    def say(self, message: str) -> None:
        """Say nothing."""


class _NoBar:
    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        """Ignore it."""
