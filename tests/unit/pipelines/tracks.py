"""A whole run, told to MLflow by a real writer; and an MLflow whose answer is known."""

from __future__ import annotations

from pathlib import Path

from pipelines.mlflow_process import writer
from pipelines.promotion import Champion
from pipelines.records import RunRecord, StageRecord
from pipelines.tracking.lines import Attachments, RunStart, Tracked
from pipelines.tracking.sending import MlflowTracker


def start_of(record: RunRecord) -> RunStart:
    return RunStart.model_validate(
        {name: value for name, value in dict(record).items() if name in RunStart.model_fields}
    )


def track(home: Path, record: RunRecord, folder: Path | None = None) -> Tracked:
    with writer() as process:
        tracker = MlflowTracker(home, process)
        tracker.start(start_of(record))
        for stage in record.stages:
            tracker.stage(stage)
        tracker.finish(record, Attachments(folder=folder))
        return tracker.tracked()


class Answering:
    """An MLflow that answers every run with the same."""

    def __init__(self, tracked: Tracked) -> None:
        self._tracked = tracked

    def start(self, run: RunStart) -> None: ...
    def stage(self, record: StageRecord) -> None: ...
    def learning(self, index: int, stage: str, step: int, values: dict[str, float]) -> None: ...
    def finish(self, run: RunRecord, attachments: Attachments) -> None: ...

    def champion(self) -> Champion | None:
        return None

    def tracked(self) -> Tracked:
        return self._tracked
