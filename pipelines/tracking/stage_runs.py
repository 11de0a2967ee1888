"""The nested runs of one run in MLflow, one for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.records import StageRecord
from pipelines.redaction import redact
from pipelines.tracking import statuses
from pipelines.tracking.calls import at_step, create, log
from pipelines.tracking.lines import Learning
from pipelines.tracking.metrics import stage_metrics
from pipelines.tracking.params import stage_params
from pipelines.tracking.tags import stage_tags

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOG_BYTES = 2_000_000


class StageRuns:
    """Nested under one parent run; those of stages that train are there while they do."""

    def __init__(self, client: MlflowClient, experiment: str, parent: str, secrets: Mapping[str, str]) -> None:
        self._client, self._experiment, self._parent, self._secrets = client, experiment, parent, secrets
        self._learning: dict[int, str] = {}

    def stage(self, record: StageRecord) -> None:
        """A stage ended: what it was given, what came out, and its log."""
        tags = stage_tags(record)
        run_id = self._learning.pop(record.index, None) or self._nested(record.index, record.stage)
        log(self._client, run_id, stage_params(record), at_step(stage_metrics(record)), tags)
        self._client.set_terminated(run_id, statuses.STAGE[record.status])
        if record.log and record.log.is_file():
            self._client.log_text(run_id, redact(tail(record.log), self._secrets), f"logs/{record.log.name}")

    def learning(self, point: Learning) -> None:
        """One more point of the curves of a stage that trains, to be looked at while it does."""
        if point.index not in self._learning:
            self._learning[point.index] = self._nested(point.index, point.stage)
        log(self._client, self._learning[point.index], {}, at_step(point.values, point.step))

    def end_learning(self) -> None:
        """A stage of which no record came was killed in its training."""
        for run_id in self._learning.values():
            self._client.set_terminated(run_id, "KILLED")

    def _nested(self, index: int, stage: str) -> str:
        return create(self._client, self._experiment, f"{index}-{stage}", {"mlflow.parentRunId": self._parent})


def tail(path: Path) -> str:
    """The last two million bytes of a worker's log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace")
