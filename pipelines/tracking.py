"""Follows a run into MLflow, which lives in a process of its own (`pipelines.mlflow_writer`).

Importing MLflow takes 1.7 s and 90 MB, so that the orchestrator never does: it writes JSON lines to the writer and
reads back what came of them. MLflow observes and decides nothing; when it cannot be reached the run goes on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Literal, Protocol

from pydantic import Field, JsonValue, TypeAdapter

from pipelines.budget import Budget
from pipelines.measures import DeviceFacts
from pipelines.records import RunRecord, StageRecord
from pipelines.redaction import redacted
from stages.base import ROOT, Frozen

UNREACHABLE = re.compile(r"API request to (?P<uri>\S+?)/api/.*\[Errno -?\d+\] (?P<reason>[^\"')]+)")
LONGEST_PROBLEM = 300
TIME_LIMIT_S = 600.0  # a remote server gets the whole bundle


class RunStart(Frozen):
    """What is known of a run before its first stage."""

    name: str
    config_path: str
    config_digest: str
    config_text: str = Field(description="secrets not filled in")
    git_commit: str | None = None
    started: str = Field("", description="UTC, ISO 8601")
    device: DeviceFacts
    seed: int = 0
    evaluation: dict[str, JsonValue] = Field({}, description="defaults filled in")
    budgets: tuple[Budget, ...] = ()


class Attachments(Frozen):
    """The files that go with a run. The worker logs are named by its records."""

    folder: Path | None = Field(None, description="takes report.md, report.html and plots; attached with all it holds")


class Tracked(Frozen):
    """Where a run is found in MLflow, or why it is not there."""

    mlflow_run: str | None = None
    experiment: str | None = None
    model_version: str | None = Field(None, description="name/version")
    hint: str = Field("", description="how to look at it")
    problem: str = Field("", description="why tracking failed, or is incomplete")


class Opening(Frozen):
    """The writer's first line: where MLflow is."""

    event: Literal["start"] = "start"
    run: RunStart
    home: Path


class Progressed(Frozen):
    """One more stage is done."""

    event: Literal["stage"] = "stage"
    record: StageRecord


class Closing(Frozen):
    """The run is over, one way or another."""

    event: Literal["finish"] = "finish"
    run: RunRecord
    attachments: Attachments


Line = Opening | Progressed | Closing
LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


class Tracker(Protocol):
    """Whoever wants to know what a run does."""

    def start(self, run: RunStart) -> None:
        """The run begins."""
        ...

    def stage(self, record: StageRecord) -> None:
        """A stage ended, in whatever way."""
        ...

    def finish(self, run: RunRecord, attachments: Attachments) -> Tracked:
        """The run ended, in whatever way; waits until everything is written."""
        ...


class NullTracker:
    """Tracks nothing."""

    def start(self, run: RunStart) -> None:
        """Ignore it."""

    def stage(self, record: StageRecord) -> None:
        """Ignore it."""

    def finish(self, run: RunRecord, attachments: Attachments) -> Tracked:
        """Nothing was tracked."""
        return Tracked()


class MlflowTracker:
    """Sends a run to the MLflow writer. Never raises for MLflow's sake."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes], errors: IO[bytes], time_limit_s: float) -> None:
        self._home, self._process, self._errors, self._time_limit_s = home, process, errors, time_limit_s
        self._config_text = ""

    @classmethod
    def launch(
        cls, home: Path, say: Callable[[str], None] = lambda _: None, time_limit_s: float = TIME_LIMIT_S
    ) -> MlflowTracker:
        """Start the writer, which imports MLflow while the run goes on. `home` is Tapeout's own folder."""
        if "MLFLOW_TRACKING_URI" not in os.environ and not database(home).exists():
            say("MLflow: setting up its database, once, about 10 s")
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the tracker
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.mlflow_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            start_new_session=True,  # ^C is the orchestrator's to report
        )
        return cls(home, process, errors, time_limit_s)

    def start(self, run: RunStart) -> None:
        """Open the parent run."""
        self._config_text = run.config_text
        self._send(Opening(run=run, home=self._home.absolute()))

    def stage(self, record: StageRecord) -> None:
        """Write a nested run."""
        self._send(Progressed(record=record))

    def finish(self, run: RunRecord, attachments: Attachments) -> Tracked:
        """Write the rest and wait for the writer."""
        self._send(Closing(run=run, attachments=attachments))
        late = ""
        try:
            answers, _ = self._process.communicate(timeout=self._time_limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            answers, _ = self._process.communicate()
            late = f"MLflow did not finish within {self._time_limit_s:g} s"
        tracked = Tracked.model_validate_json(lines[-1]) if (lines := answers.splitlines()) else Tracked()
        problem = late or (self._last_words() if self._process.returncode else "")
        self._errors.close()
        return tracked.model_copy(update={"problem": problem})

    def _send(self, line: Line) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(redacted(line, self._config_text).model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the writer is gone; `finish` says why

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return _in_short(lines[-1]) if lines else f"the writer ended with exit code {self._process.returncode}"


def _in_short(error: str) -> str:
    if refused := UNREACHABLE.search(error):
        return f"{refused['uri']} cannot be reached: {refused['reason']}"
    return error.removeprefix("mlflow.exceptions.")[:LONGEST_PROBLEM]


def database(home: Path) -> Path:
    """The embedded store that is used when MLFLOW_TRACKING_URI is not set."""
    return home / "mlflow" / "mlflow.db"
