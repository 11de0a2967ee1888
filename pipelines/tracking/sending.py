"""Sends runs, searches and comparisons to MLflow, which lives in a process of its own (`pipelines.mlflow_writer`).

The orchestrator never imports MLflow: it writes JSON lines to the writer and
reads back what came of them. MLflow observes and decides nothing; when it cannot be reached the run goes on.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines.mlflow_process import WriterProcess
from pipelines.promotion import Champion
from pipelines.records import RunRecord, StageRecord
from pipelines.redaction import redacted
from pipelines.searching.trials import SearchRecord, Trial
from pipelines.tracking.lines import (
    Attachments,
    Closing,
    Comparing,
    Learning,
    Line,
    Opening,
    Progressed,
    RunStart,
    Searched,
    Searching,
    Tracked,
    Tried,
)

UNREACHABLE = re.compile(r"API request to (?P<uri>\S+?)/api/.*\[Errno -?\d+\] (?P<reason>[^\"')]+)")
LONGEST_PROBLEM = 300
CHAMPION_LIMIT_S = 60.0
TIME_LIMIT_S = 600.0  # a remote server gets the whole bundle


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
