"""Progress as bars of rich on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from pipelines.progress import Bar, Silent


class RichProgress:
    """Draws a bar for each piece of long work; on a pipe or in CI, one line when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
        """A bar, gone at the end of the block."""
        if not self._console.is_terminal:
            with Silent().bar(what) as unseen:
                yield unseen
            self.say(f"{what}: done")
            return
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30)]
        columns += [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [_Count(unit)]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = _RichBar(progress, progress.add_task(what, total=total))
            yield bar

    def say(self, message: str) -> None:
        """Print a line."""
        self._console.print(message, highlight=False)


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total, what=what)


class _Count(ProgressColumn):
    """How many of how many, with the noun that the work itself gave last."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """`12/272 tensors`, or nothing while the total is unknown."""
        noun = task.fields.get("what") or self._unit
        return Text(f"{task.completed:g}/{task.total:g} {noun}" if task.total else "")
