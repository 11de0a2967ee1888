"""Writes one run to MLflow: a parent run, and a nested one for each stage."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.records import RunRecord
from pipelines.redaction import secrets_of
from pipelines.tracking import champions, statuses, versions
from pipelines.tracking.calls import create, log
from pipelines.tracking.connection import Connection, connect
from pipelines.tracking.inputs import evaluation_data
from pipelines.tracking.lines import UNANSWERED, Closing, Learning, Line, Opening, Progressed, RunStart, Tracked
from pipelines.tracking.metrics import series
from pipelines.tracking.notes import description
from pipelines.tracking.params import run_params
from pipelines.tracking.reports import report
from pipelines.tracking.stage_runs import StageRuns
from pipelines.tracking.tags import finish_tags, start_tags


def follow(opening: Opening, lines: Iterable[Line], answer: Callable[[Tracked], None]) -> None:
    """Write one run. Lines that end without a closing one mean that the orchestrator was killed."""
    writer = RunWriter(opening.run, opening.home, answer)
    for line in lines:
        if isinstance(line, Progressed):
            writer.stages.stage(line.record)
        elif isinstance(line, Learning):
            writer.stages.learning(line)
        elif isinstance(line, Closing):
            with TemporaryDirectory() as scratch:
                folder = line.attachments.folder or Path(scratch)
                report(line.run, folder, opening.home)
                writer.finish(line.run, folder)
            return
    writer.abandon()


class RunWriter:
    """One parent run in MLflow; it says what is known of it whenever that changes."""

    def __init__(self, start: RunStart, home: Path, answer: Callable[[Tracked], None]) -> None:
        self._start, self._answer = start, answer
        secrets = secrets_of(start.config_text)
        connection = connect(home)
        experiment = connection.experiment(start.name)  # at once: it may not be there at all
        self._connection = connection.patient()
        self._client = self._connection.client
        self._run_id = create(
            self._client, experiment, _name(start), start_tags(start) | {"mlflow.user": _user()}, _started_ms(start)
        )
        champion = champions.champion(self._client, start.name) if start.promotes else None
        hint = _hint(self._connection, experiment, self._run_id)
        self._tracked = Tracked(mlflow_run=self._run_id, experiment=start.name, hint=hint, champion=champion)
        self._client.log_text(self._run_id, start.config_text, "config.yaml")
        self.stages = StageRuns(self._client, experiment, self._run_id, secrets)
        self._say()

    def finish(self, run: RunRecord, folder: Path) -> None:
        """The parent's metrics, verdict and files; a model version when every budget passed."""
        self.stages.end_learning()
        tags = finish_tags(run) | {"mlflow.note.content": description(run)}
        log(self._client, self._run_id, run_params(self._start), series(run), tags)
        if run.data:
            self._client.log_inputs(self._run_id, [evaluation_data(run.data)])
        self._client.set_terminated(self._run_id, statuses.RUN[run.status])
        if run.status == "passed" and run.bundle:
            self._register(run, run.bundle)
        elif self._start.promotes and champions.aliases(self._client, run.name):
            champions.note(self._client, run.name, champions.outcome_line(run, None, ""))
        self._client.log_artifacts(self._run_id, str(folder))

    def abandon(self) -> None:
        """The orchestrator is gone."""
        self.stages.end_learning()
        tags = {"verdict": "interrupted", "message": "tapeout was killed"}
        log(self._client, self._run_id, run_params(self._start), (), tags)
        self._client.set_terminated(self._run_id, "KILLED")

    def _register(self, run: RunRecord, bundle: Path) -> None:
        known = versions.register(self._connection, self._run_id, run, bundle)
        pending = run.promotion is not None and run.promotion.decision == "promoted"
        self._say(model_version=known, not_promoted=UNANSWERED if pending else "")
        if run.promotion:
            version = known.rpartition("/")[2]
            against = versions.promote(self._connection, run, version, run.promotion)
            self._say(not_promoted=against)
            versions.tell(self._connection, self._run_id, run, version, run.promotion, against)

    def _say(self, **news: Any) -> None:
        self._tracked = self._tracked.model_copy(update=news)
        with suppress(BrokenPipeError):  # killed before it heard: the run still has to be marked as that
            self._answer(self._tracked)


def _name(start: RunStart) -> str:
    return f"{start.name}-{start.started[11:19].replace(':', '') or time.strftime('%H%M%S')}"


def _started_ms(start: RunStart) -> int | None:
    """Since 1970: the run began before its MLflow process had anything to say."""
    return int(datetime.fromisoformat(start.started).timestamp() * 1000) if start.started else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return ""


def _hint(connection: Connection, experiment: str, run_id: str) -> str:
    """How to look at the run."""
    if not connection.on_this_machine:
        return f"{connection.uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    return f"mlflow ui --backend-store-uri {connection.uri}"
