"""The curves of a training are in MLflow while it trains."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from samples import run_record
from tracks import start_of

from pipelines.mlflow_process import writer
from pipelines.tracking.lines import Attachments
from pipelines.tracking.sending import MlflowTracker

pytestmark = pytest.mark.slow  # a real MLflow database


def tracked_so_far(file: Path, index: int) -> tuple[str, dict[str, list[tuple[int, float]]]]:
    """Status and curves of the nested run of a stage."""
    connection = sqlite3.connect(file)
    query = "select run_uuid, status from runs where name like ?"
    ((run, status),) = connection.execute(query, (f"{index}-%",)).fetchall() or [("", "")]
    points = connection.execute("select key, step, value from metrics where run_uuid = ? order by step", (run,))
    curves: dict[str, list[tuple[int, float]]] = {}
    for key, step, value in points:
        curves.setdefault(key, []).append((step, value))
    connection.close()
    return status, curves


def test_curves_of_a_training_are_there_while_it_trains_and_the_stages_numbers_join_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, record = tmp_path / "live.db", run_record()
    last = record.stages[-1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    with writer() as process:
        tracker = MlflowTracker(tmp_path / "home", process)
        tracker.start(start_of(record.model_copy(update={"promotion": None})))
        assert process.first_answer(60)
        for step, loss in ((10, 2.5), (20, 1.25)):
            tracker.learning(last.index, last.stage, step, {"train_loss": loss})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(tracked_so_far(file, last.index)[1].get("train_loss", ())) < 2:
            time.sleep(0.05)
        status, curves = tracked_so_far(file, last.index)
        for stage in record.stages:
            tracker.stage(stage)
        tracker.finish(record.model_copy(update={"bundle": None}), Attachments())
        assert tracker.tracked().problem == ""

    assert (status, curves) == ("RUNNING", {"train_loss": [(10, 2.5), (20, 1.25)]})
    status, curves = tracked_so_far(file, last.index)
    assert status == "FINISHED"
    assert curves["train_loss"] == [(10, 2.5), (20, 1.25)]
    assert [step for step, _ in curves["size_bytes"]] == [0]


def test_training_that_was_killed_with_its_orchestrator_is_no_running_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "killed.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    with writer() as process:
        assert process.process.stdout is not None
        process.process.stdout.close()
        tracker = MlflowTracker(tmp_path / "home", process)
        tracker.start(start_of(run_record()))
        tracker.learning(1, "distill", 10, {"train_loss": 1.0})
    process.process.wait(60)

    assert tracked_so_far(file, 1) == ("KILLED", {"train_loss": [(10, 1.0)]})
