"""What a run has come to so far; it stays whatever happens to the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.making import Made
from pipelines.plan import Plan
from pipelines.records import DataRecord, StageRecord
from pipelines.store import Store
from pipelines.tracking.tracker import Tracker
from stages.base import Artifact


@dataclass
class History:
    """A record a stage, in order, which the tracker hears of once it is whole; the data; the last that passed."""

    plan: Plan
    store: Store
    tracker: Tracker
    records: list[StageRecord] = field(default_factory=list)
    data: DataRecord | None = None
    last_passed: Artifact | None = None
    _tracked: set[int] = field(default_factory=set)

    def made(self, made: Made, empty: StageRecord, doubts: tuple[str, ...] = ()) -> None:
        """Keep the stage's record, filled in from what the stage made."""
        entry = made.entry
        record = empty.model_copy(
            update={
                "cached": made.cached,
                "seconds": entry.seconds,
                "artifact": entry.digest,
                "kind": entry.kind,
                "parents": entry.parents,
                "facts": entry.facts,
                "notes": (*entry.notes, *doubts),
                "tables": entry.tables,
                "size_bytes": entry.size_bytes,
                "log": self.store.log(entry),
            }
        )
        self.records.append(record)
        if not self._to_be_measured(record.index):
            self.track(record.index)

    def failed(self, record: StageRecord) -> None:
        """Keep the record of a stage that made nothing."""
        self.records.append(record.model_copy(update={"status": "failed"}))
        self.track(record.index)

    def amend(self, index: int, **changes: object) -> None:
        """Write into a stage's record what became known since."""
        self.records[index] = self.records[index].model_copy(update=changes)

    def size_of(self, artifact: Artifact) -> int:
        """Bytes of an artifact that a stage of this run made."""
        return next(record.size_bytes for record in reversed(self.records) if record.artifact == artifact.digest)

    def track(self, index: int) -> None:
        """Tell the tracker of a stage."""
        self.tracker.stage(self.records[index])
        self._tracked.add(index)

    def track_rest(self) -> None:
        """Tell the tracker of every stage that it has not heard of: the reference, and one that was not measured."""
        for record in self.records:
            if record.index not in self._tracked:
                self.track(record.index)

    def _to_be_measured(self, index: int) -> bool:
        return index == self.plan.reference or (index > 0 and self.plan.measured(self.plan.steps[index - 1]))
