"""How a run ends: its record, the bundle if it passed, the report, and what MLflow is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.bundle import package, serve_command
from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError
from pipelines.git import commit
from pipelines.notifying import notify
from pipelines.pipeline import Pipeline
from pipelines.promotion import Promoted
from pipelines.records import RunRecord, Status
from pipelines.redaction import redacted
from pipelines.reporting import report
from pipelines.tracking.lines import Attachments, RunStart, Tracked
from pipelines.tracking.tracker import NullTracker
from pipelines.workshop import Around, plainly
from stages._mixture import KIND as SENSITIVITY
from stages._mixture import Sensitivity
from stages.base import ROOT


@dataclass(frozen=True)
class Outcome:
    """The record of a run, the error that ended it early, and what the registry lacks of one that passed."""

    record: RunRecord
    error: TapeoutError | None
    missing: str = ""


@dataclass(frozen=True)
class Ending:
    """Where a run leaves its results: `folder` is the run's own, `dist` takes bundles."""

    folder: Path
    dist: Path


def execute(pipeline: Pipeline, ending: Ending, around: Around = plainly, prefect_run: str | None = None) -> Outcome:
    """Run the pipeline to its end, whatever that is; `conclude` leaves the record."""
    started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    pipeline.workshop.tracker.start(start_of(pipeline, started))
    error: TapeoutError | None = None
    try:
        pipeline.run(around)
    except TapeoutError as found:
        error = found
    except KeyboardInterrupt:
        error = Interrupted("interrupted; the store is clean, the next run goes on at this stage")
    known = {"prefect_run": prefect_run, "seconds": time.monotonic() - begin}  # for the report in the bundle
    record = _record(pipeline, error, started).model_copy(update=known)
    if error is None:
        record, error = _packaged(pipeline, record, ending, around)
    record = record.model_copy(update={"seconds": time.monotonic() - begin})
    pipeline.history.track_rest()
    _leave_sensitivities(pipeline, ending.folder)
    pipeline.workshop.tracker.finish(record, Attachments(folder=ending.folder))
    return Outcome(record, error)


def conclude(outcome: Outcome, pipeline: Pipeline, ending: Ending) -> Outcome:
    """The outcome with its place in MLflow, once everything is written there; leaves the record in the run's folder."""
    tracker, record = pipeline.workshop.tracker, outcome.record
    tracked = tracker.tracked()
    record = record.model_copy(update={"mlflow_run": tracked.mlflow_run, "model_version": tracked.model_version})
    missing = _missing(record, tracked)
    record = record.model_copy(update={"promotion": _in_the_registry(record.promotion, missing)})
    if isinstance(tracker, NullTracker):
        report.write(record, ending.folder, {})  # the MLflow writer does it for itself
    if tracked.problem:
        pipeline.workshop.progress.say(f"MLflow: {tracked.problem}; the run itself is not affected")
    settings = pipeline.loaded.config.notify
    for problem in notify(settings, record) if settings else ():
        pipeline.workshop.progress.say(f"{problem}; the run itself is not affected")
    (ending.folder / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return Outcome(record, outcome.error, "" if isinstance(tracker, NullTracker) else missing)


def _leave_sensitivities(pipeline: Pipeline, folder: Path) -> None:
    """The table and the plot of what each tensor loses, where a stage measured it."""
    store = pipeline.workshop.store
    for record in pipeline.history.records:
        if record.kind == SENSITIVITY and record.artifact:
            from pipelines.reporting import sensitivity

            sensitivity.leave(Sensitivity.load(store.artifact(store.find(record.artifact)).path), folder)


def _missing(record: RunRecord, tracked: Tracked) -> str:
    """What the registry did not take of a run that passed, or nothing."""
    if record.status != "passed":
        return ""
    return tracked.not_promoted or ("" if tracked.model_version else "the version could not be registered")


def _in_the_registry(promoted: Promoted | None, missing: str) -> Promoted | None:
    """What the comparison said, unless the registry did not take it."""
    if promoted is None or promoted.decision == "kept" or not missing:
        return promoted
    return promoted.model_copy(update={"decision": "kept", "reason": missing})


def start_of(pipeline: Pipeline, started: str) -> RunStart:
    """What is known before the first stage."""
    loaded = pipeline.loaded
    return RunStart(
        name=loaded.config.name,
        config_path=str(loaded.path),
        config_digest=loaded.digest,
        config_text=loaded.text,
        git_commit=commit(ROOT),
        started=started,
        device=pipeline.workshop.device,
        seed=loaded.config.seed,
        evaluation=loaded.config.evaluation.model_dump(mode="json"),
        budgets=loaded.config.budgets,
        promotes=loaded.config.promotion is not None,
    )


def _record(pipeline: Pipeline, error: TapeoutError | None, started: str) -> RunRecord:
    status: Status = "passed"
    if error is not None:
        status = "halted" if isinstance(error, BudgetExceeded) else "failed"
        status = "interrupted" if isinstance(error, Interrupted) else status
    loaded, history = pipeline.loaded, pipeline.history
    flagged = [verdict.message for stage in history.records for verdict in stage.verdicts if verdict.flagged]
    record = RunRecord(
        name=loaded.config.name,
        config_path=str(loaded.path),
        config_digest=loaded.digest,
        config_text=loaded.text,
        git_commit=commit(ROOT),
        started=started,
        status=status,
        message=error.message if error else "; ".join(flagged),
        seed=loaded.config.seed,
        evaluation=loaded.config.evaluation.model_dump(mode="json"),
        budgets=loaded.config.budgets,
        device=pipeline.workshop.device,
        data=history.data,
        stages=tuple(history.records),
        draft=tuple(pipeline.drafting.history.records if pipeline.drafting else ()),
        promotion=pipeline.promoted if error is None else None,
        last_passed=history.last_passed.digest if history.last_passed else None,
    )
    return redacted(record, loaded.text)


def _packaged(
    pipeline: Pipeline, record: RunRecord, ending: Ending, around: Around
) -> tuple[RunRecord, TapeoutError | None]:
    artifact, version = pipeline.deployable, pipeline.loaded.config.version
    assert artifact is not None
    pack: Callable[[], Path] = lambda: package(record, artifact, ending.dist, pipeline.loaded.text, version)  # noqa: E731
    try:
        bundle = around("bundle", pack)
    except TapeoutError as error:
        return record.model_copy(update={"status": "failed", "message": error.message}), error
    return record.model_copy(update={"bundle": bundle, "serve": serve_command(bundle)}), None
