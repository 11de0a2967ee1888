"""MLflow is away, goes away, or hangs: the run is told what it lost, or nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from samples import run_record
from tracks import start_of, track

from pipelines.mlflow_process import database, writer
from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import Places, mlflow_server
from pipelines.tracking.lines import Attachments, Tracked
from pipelines.tracking.sending import MlflowTracker

pytestmark = pytest.mark.slow  # a real MLflow


def test_server_that_is_away_is_a_reason_and_the_report_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracked = track(tmp_path, run_record(), tmp_path / "runs")
    assert tracked == Tracked(problem="http://127.0.0.1:9 cannot be reached: Connection refused")
    assert (tmp_path / "runs" / "report.html").is_file()


def test_database_that_is_away_in_the_middle_and_comes_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, record = tmp_path / "away.db", run_record()
    # a second of SQLite's own patience: what is held longer is away
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}?timeout=1")
    with writer() as process:
        tracker = MlflowTracker(tmp_path / "home", process)
        tracker.start(start_of(record.model_copy(update={"promotion": None})))
        assert process.first_answer(60)
        held = sqlite3.connect(file, isolation_level=None)
        held.execute("begin exclusive")
        for stage in record.stages:
            tracker.stage(stage)
        bundle = tmp_path / "dist"
        bundle.mkdir()
        tracker.finish(record.model_copy(update={"bundle": bundle}), Attachments())
        time.sleep(4)
        held.execute("rollback")
        tracked = tracker.tracked()

    rows = held.execute("select status, count(*) from runs group by status").fetchall()
    held.close()
    assert (tracked.problem, tracked.model_version) == ("", f"{record.name}/1")
    assert rows == [("FINISHED", 1 + len(record.stages))]


def test_writer_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with writer() as process:
        tracker = MlflowTracker(tmp_path, process, time_limit_s=0.05)
        tracker.start(start_of(run_record()))
        tracker.finish(run_record(), Attachments())
        tracked = tracker.tracked()
    assert tracked == Tracked(problem="MLflow did not finish within 0.05 s")


def test_orchestrator_that_is_killed_before_it_hears_anything_leaves_a_killed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with writer() as process:
        assert process.process.stdout is not None
        process.process.stdout.close()
        MlflowTracker(tmp_path, process).start(start_of(run_record()))
    process.process.wait(60)

    connection = sqlite3.connect(database(tmp_path))
    assert connection.execute("select status from runs").fetchall() == [("KILLED",)]
    connection.close()


def test_server_that_is_killed_in_the_middle_and_comes_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, places = run_record(), Places(tmp_path / "server", mlflow_port=free_port())
    (tmp_path / "dist").mkdir()
    with Child(mlflow_server(places)) as server:
        server.wait_until_well()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.service.health.removesuffix("/health"))
        with writer() as process:
            tracker = MlflowTracker(tmp_path / "home", process)
            tracker.start(start_of(record.model_copy(update={"promotion": None})))
            assert process.first_answer(60)
            os.killpg(server.pid, signal.SIGKILL)
            for stage in record.stages:
                tracker.stage(stage)
            tracker.finish(record.model_copy(update={"bundle": tmp_path / "dist"}), Attachments())
            time.sleep(4)
            server.restart()
            tracked = tracker.tracked()

    assert (tracked.problem, tracked.model_version) == ("", f"{record.name}/1")
    assert statuses(database(places.home)) == [("FINISHED", 1 + len(record.stages))]


def statuses(file: Path) -> list[tuple[str, int]]:
    """Of the runs in a database, each with its number."""
    connection = sqlite3.connect(file)
    try:
        return connection.execute("select status, count(*) from runs group by status").fetchall()
    finally:
        connection.close()
