"""Whoever wants to know what a run does, and one that does not."""

from __future__ import annotations

from typing import Protocol

from pipelines.promotion import Champion
from pipelines.records import RunRecord, StageRecord
from pipelines.tracking.lines import Attachments, RunStart, Tracked


class Tracker(Protocol):
    """Whoever wants to know what a run does."""

    def start(self, run: RunStart) -> None:
        """The run begins."""
        ...

    def stage(self, record: StageRecord) -> None:
        """A stage ended, in whatever way."""
        ...

    def learning(self, index: int, stage: str, step: int, values: dict[str, float]) -> None:
        """A training came to these metrics after so many steps; its stage goes on."""
        ...

    def finish(self, run: RunRecord, attachments: Attachments) -> None:
        """The run ended, in whatever way."""
        ...

    def champion(self) -> Champion | None:
        """The registered version that is champion, if the run's start asked for it."""
        ...

    def tracked(self) -> Tracked:
        """Where the finished run is found; waits until everything is written."""
        ...


class NullTracker:
    """Tracks nothing."""

    def start(self, run: RunStart) -> None:
        """Ignore it."""

    def stage(self, record: StageRecord) -> None:
        """Ignore it."""

    def learning(self, index: int, stage: str, step: int, values: dict[str, float]) -> None:
        """Ignore it."""

    def finish(self, run: RunRecord, attachments: Attachments) -> None:
        """Ignore it."""

    def champion(self) -> Champion | None:
        """Nobody."""
        return None

    def tracked(self) -> Tracked:
        """Nowhere."""
        return Tracked()
