"""Follows a run into MLflow, which lives in a process of its own (`pipelines.mlflow_writer`).

The orchestrator never imports MLflow: it writes JSON lines to the writer and
reads back what came of them. MLflow observes and decides nothing; when it cannot be reached the run goes on.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, JsonValue, TypeAdapter

from pipelines.budget import Budget
from pipelines.measures import DeviceFacts
from pipelines.mlflow_process import WriterProcess
from pipelines.promotion import Champion
from pipelines.records import RunRecord, StageRecord
from pipelines.redaction import redacted
from pipelines.searching.trials import SearchRecord, Trial
from stages.base import Frozen

UNREACHABLE = re.compile(r"API request to (?P<uri>\S+?)/api/.*\[Errno -?\d+\] (?P<reason>[^\"')]+)")
LONGEST_PROBLEM = 300
CHAMPION_LIMIT_S = 60.0
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
    promotes: bool = Field(False, description="whether the champion is wanted, to be compared with")


class Attachments(Frozen):
    """The files that go with a run. The worker logs are named by its records."""

    folder: Path | None = Field(None, description="takes report.md, report.html and plots; attached with all it holds")


class Tracked(Frozen):
    """Where a run is found in MLflow, or why it is not there."""

    mlflow_run: str | None = None
    experiment: str | None = None
    model_version: str | None = Field(None, description="name/version")
    champion: Champion | None = Field(None, description="when the run began")
    not_promoted: str = Field("", description="why the registry did not take what the comparison said")
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


class Learning(Frozen):
    """A stage that trains is so far."""

    event: Literal["learning"] = "learning"
    index: int
    stage: str
    step: int
    values: dict[str, float]


class Closing(Frozen):
    """The run is over, one way or another."""

    event: Literal["finish"] = "finish"
    run: RunRecord
    attachments: Attachments


class Comparing(Frozen):
    """The only line of a comparison: runs that are over, beside each other."""

    event: Literal["compare"] = "compare"
    records: tuple[RunRecord, ...]
    home: Path


class Searching(Frozen):
    """A search's first line."""

    event: Literal["search"] = "search"
    name: str
    config_path: str
    config_text: str
    started: str
    home: Path
    resumes: str | None = Field(None, description="the run of an earlier session of it")


class Tried(Frozen):
    """One more trial of a search ended."""

    event: Literal["trial"] = "trial"
    trial: Trial


class Searched(Frozen):
    """A search is over, one way or another."""

    event: Literal["searched"] = "searched"
    record: SearchRecord
    folder: Path = Field(description="its JSON, PNG and YAML files are attached")


Line = Opening | Progressed | Learning | Closing | Comparing | Searching | Tried | Searched
LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


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


class MlflowTracker:
    """Sends a run to the MLflow writer. Never raises for MLflow's sake."""

    def __init__(self, home: Path, writer: WriterProcess, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._home, self._writer, self._time_limit_s = home, writer, time_limit_s
        self._config_text, self._known = "", Tracked()

    def start(self, run: RunStart) -> None:
        """Open the parent run."""
        self._config_text = run.config_text
        self._send(Opening(run=run, home=self._home.absolute()))

    def stage(self, record: StageRecord) -> None:
        """Write a nested run."""
        self._send(Progressed(record=record))

    def learning(self, index: int, stage: str, step: int, values: dict[str, float]) -> None:
        """Write a point of the curves of a nested run that goes on."""
        self._send(Learning(index=index, stage=stage, step=step, values=values))

    def finish(self, run: RunRecord, attachments: Attachments) -> None:
        """Hand over the rest."""
        self._send(Closing(run=run, attachments=attachments))

    def champion(self) -> Champion | None:
        """Who the writer says it is, in its first answer. Unasked in vain: it then lets nobody be promoted."""
        if answer := self._writer.first_answer(CHAMPION_LIMIT_S):
            self._known = Tracked.model_validate_json(answer)
        return self._known.champion

    def tracked(self) -> Tracked:
        """Wait for the writer."""
        process, late = self._writer.process, ""
        try:
            answers, _ = process.communicate(timeout=self._time_limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            answers, _ = process.communicate()
            late = f"MLflow did not finish within {self._time_limit_s:g} s"
        tracked = Tracked.model_validate_json(lines[-1]) if (lines := answers.splitlines()) else self._known
        problem = late or (_in_short(self._writer.last_words()) if process.returncode else "")
        return tracked.model_copy(update={"problem": problem})

    def _send(self, line: Line) -> None:
        self._writer.send(redacted(line, self._config_text).model_dump_json().encode())


class SearchTracker:
    """Sends a search to the MLflow writer. Never raises for MLflow's sake."""

    def __init__(self, opening: Searching, writer: WriterProcess | None) -> None:
        self._writer, self._opening = writer, opening
        self._send(opening)

    def trial(self, trial: Trial) -> None:
        """A child run."""
        self._send(Tried(trial=trial))

    def finish(self, record: SearchRecord, folder: Path) -> Tracked:
        """Hand over the rest, and wait until it is written."""
        self._send(Searched(record=record, folder=folder))
        return MlflowTracker(self._opening.home, self._writer).tracked() if self._writer else Tracked()

    def _send(self, line: Line) -> None:
        if self._writer:
            self._writer.send(redacted(line, self._opening.config_text).model_dump_json().encode())


def track_comparison(records: Sequence[RunRecord], home: Path, writer: WriterProcess) -> Tracked:
    """One parent run that holds the comparison's page and chart, with a child for each run; waits for it."""
    tracker = MlflowTracker(home, writer)
    writer.send(Comparing(records=tuple(records), home=home.absolute()).model_dump_json().encode())
    return tracker.tracked()


def _in_short(error: str) -> str:
    if refused := UNREACHABLE.search(error):
        return f"{refused['uri']} cannot be reached: {refused['reason']}"
    return error.removeprefix("mlflow.exceptions.")[:LONGEST_PROBLEM]
