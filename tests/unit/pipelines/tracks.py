"""A whole run, told to MLflow by a real writer."""

from __future__ import annotations

from pathlib import Path

from pipelines.mlflow_process import writer
from pipelines.records import RunRecord
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
