from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from samples import DIGESTS, run_record
from tracks import start_of, track

from pipelines.mlflow_process import database, writer
from pipelines.reporting.sensitivity import leave
from pipelines.tracking.lines import Attachments, Tracked
from pipelines.tracking.metrics import series
from pipelines.tracking.notes import description
from pipelines.tracking.sending import track_comparison
from pipelines.tracking.tracker import NullTracker
from stages._mixture import Choice, PathPoint, Sensitivity, TensorSensitivity

pytestmark = pytest.mark.slow  # a real MLflow database, set up once


SENSITIVITY = Sensitivity(
    tokens=8,
    held_out_tokens=8,
    imatrix_tokens=0,
    tensors=(
        TensorSensitivity(
            name="blk.0.ffn_up.weight",
            elements=64,
            probe="q4_0",
            choices=(Choice(type="q4_0", size_bytes=36, kl=0.3),),
        ),
    ),
    points=(PathPoint(steps=0, size_bytes=36, kl_expected=0.3, kl=0.25, perplexity_change=0.4),),
)


@dataclass(frozen=True)
class Store:
    """An embedded store with one passed run, the same again, and one halted run."""

    home: Path
    bundle: Path
    passed: Tracked
    again: Tracked
    halted: Tracked

    def rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        connection = sqlite3.connect(database(self.home))
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def table(self, name: str, run: Tracked) -> dict[str, str]:
        return dict(self.rows(f"select key, value from {name} where run_uuid = ?", run.mlflow_run or ""))  # type: ignore[arg-type]

    def artifacts(self, run: Tracked) -> Path:
        return self.home / "mlflow" / "artifacts" / (run.mlflow_run or "") / "artifacts"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("HUB_TOKEN", "s3cret-token")
        log = home / "quantize_gguf.log"
        log.write_text("loaded with s3cret-token\n")
        bundle = home / "dist" / "smol-q6k-1"
        bundle.mkdir(parents=True)
        record = run_record(log=log)
        text = record.config_text + "# ${env:HUB_TOKEN}\n"
        record = record.model_copy(update={"bundle": bundle, "config_text": text})
        (home / "runs" / "1").mkdir(parents=True)
        leave(SENSITIVITY, home / "runs" / "1")
        passed = track(home, record, home / "runs" / "1")
        return Store(home, bundle, passed, track(home, record), track(home, run_record("halted", 0.071)))


def test_passed_run_is_found_with_its_model_version(store: Store) -> None:
    assert store.passed.problem == ""
    assert store.passed.experiment == "smol-q6k"
    assert store.passed.model_version == "smol-q6k/1"
    assert store.passed.hint == f"mlflow ui --backend-store-uri sqlite:///{database(store.home)}"
    ((source, run),) = store.rows("select source, run_id from model_versions")
    assert (source, run) == (store.bundle.as_uri(), store.passed.mlflow_run)
    tags = dict(store.rows("select key, value from model_version_tags"))  # type: ignore[arg-type]
    assert (tags["digest"], tags["verdict"]) == (DIGESTS["quantize_gguf"], "passed")


def test_sensitivities_are_logged_as_table_and_plot(store: Store) -> None:
    found = store.artifacts(store.passed)

    assert (found / "sensitivity.csv").read_text().splitlines()[1].startswith("blk.0.ffn_up.weight,64,q4_0,36,0.3")
    assert (found / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_same_artifact_is_not_registered_twice(store: Store) -> None:
    assert store.again.mlflow_run != store.passed.mlflow_run
    assert store.again.model_version == "smol-q6k/1"


def test_halted_run_is_there_and_registers_nothing(store: Store) -> None:
    assert (store.halted.problem, store.halted.model_version) == ("", None)
    tags = store.table("tags", store.halted)
    assert (tags["verdict"], tags["halted_stage"]) == ("halted", "quantize_gguf")
    assert tags["message"].startswith("perplexity rose 30.45 -> 32.61")
    assert store.rows("select status from runs where run_uuid = ?", store.halted.mlflow_run or "") == [("FAILED",)]
    assert store.rows("select count(*) from model_versions") == [(1,)]


def test_columns_of_the_parent_are_those_of_the_deployable(store: Store) -> None:
    metrics = store.table("latest_metrics", store.passed)
    assert metrics["perplexity"] == pytest.approx(30.87, abs=0.01)
    assert metrics["perplexity_change_relative"] == 0.0139
    assert (metrics["size_bytes"], metrics["tbt_p50_ms"], metrics["seconds"]) == (138e6, 15.1, 310.0)
    query = "select step, value from metrics where run_uuid = ? and key = 'size_bytes' order by step"
    assert store.rows(query, store.passed.mlflow_run or "") == [(1, 538e6), (2, 271e6), (3, 138e6)]


def test_parameters_are_budgets_and_evaluation(store: Store) -> None:
    assert store.table("params", store.passed) == {
        "seed": "0",
        "evaluation.perplexity.windows": "16",
        "evaluation.perplexity.window": "512",
        "budget.perplexity.max_regression": "0.02",
        "budget.perplexity.relative": "true",
        "budget.perplexity.on_inconclusive": "point",
        "budget.size_bytes.max": "150000000.0",
        "budget.size_bytes.relative": "false",
        "budget.size_bytes.on_inconclusive": "point",
    }


def test_every_stage_is_a_nested_run(store: Store) -> None:
    query = (
        "select name, status, runs.run_uuid from runs join tags on tags.run_uuid = runs.run_uuid "
        "where key = 'mlflow.parentRunId' and value = ? order by name"
    )
    rows = store.rows(query, store.passed.mlflow_run or "")
    assert [row[:2] for row in rows] == [
        ("0-source", "FINISHED"),
        ("1-import_gguf", "FINISHED"),
        ("2-gguf", "FINISHED"),
        ("3-quantize_gguf", "FINISHED"),
    ]
    last = Tracked(mlflow_run=rows[-1][2])
    assert store.table("params", last)["precision"] == "q6_k"
    assert store.table("tags", last)["tool.llama-cpp-python"] == "0.3.36"
    assert store.table("latest_metrics", last)["evaluation_seconds"] == 145.0
    assert [row[1] for row in store.rows(query, store.halted.mlflow_run or "")][-1] == "FAILED"


def test_dataset_is_an_input(store: Store) -> None:
    query = (
        "select distinct name, digest, dataset_profile from datasets join inputs on dataset_uuid = source_id "
        "where destination_id = ?"
    )
    ((name, digest, profile),) = store.rows(query, store.passed.mlflow_run or "")
    assert (name, digest, json.loads(profile)) == ("python-docs", "f" * 36, {"documents": 39, "tokens": 8192})


def test_report_pictures_and_config_are_attached(store: Store) -> None:
    pictures = ["quality_against_size.png", "quality_against_speed.png"]
    names = ["config.yaml", *pictures, "report.html", "report.md", "sensitivity.csv", "sensitivity.png"]
    assert sorted(path.name for path in store.artifacts(store.passed).iterdir()) == names
    assert sorted(path.name for path in (store.home / "runs" / "1").iterdir()) == names[1:]


def test_secret_of_the_config_is_nowhere_in_the_store(store: Store) -> None:
    logs = (store.home / "mlflow").glob("artifacts/*/artifacts/logs/quantize_gguf.log")
    assert {log.read_text() for log in logs} == {"loaded with ${env:HUB_TOKEN}\n"}
    written = [path.read_bytes() for path in (store.home / "mlflow").rglob("*") if path.is_file()]
    assert not any(b"s3cret" in content for content in written)


def test_killed_orchestrator_leaves_a_killed_run(store: Store) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from pipelines.tracking.lines import RunStart\n"
        "from pipelines.tracking.sending import MlflowTracker\n"
        "from pipelines.mlflow_process import writer\n"
        "with writer() as writing:\n"
        f"    MlflowTracker(Path({str(store.home)!r}), writing).start(RunStart.model_validate_json(sys.argv[1]))\n"
        "    print(writing.process.pid, flush=True)\n"
        "    writing.process.stdout.readline(); os.kill(os.getpid(), 9)\n"
    )
    start = start_of(run_record()).model_copy(update={"name": "killed"})
    environment = {key: text for key, text in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", script, start.model_dump_json()]
    parent = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert parent.returncode == -9
    its = Path(f"/proc/{parent.stdout.strip()}/cmdline")
    deadline = time.monotonic() + 30
    while its.exists() and b"mlflow_writer" in its.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    query = "select status from runs join experiments using (experiment_id) where experiments.name = 'killed'"
    assert store.rows(query) == [("KILLED",)]


def test_files_of_a_run_in_another_database_are_in_the_home_and_not_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert track(tmp_path / "home", run_record()).problem == ""

    assert len(list((tmp_path / "home/mlflow/artifacts").rglob("config.yaml"))) == 1
    assert list((tmp_path / "here").iterdir()) == []


def test_writer_without_a_run_is_gone_at_once() -> None:
    with writer() as unused:
        pass
    assert unused.process.returncode == -signal.SIGKILL


def test_null_tracker_tracks_nothing() -> None:
    tracker = NullTracker()
    tracker.learning(1, "distill", 10, {"train_loss": 1.0})
    tracker.start(start_of(run_record()))
    tracker.stage(run_record().stages[0])
    tracker.finish(run_record(), Attachments())
    assert tracker.tracked() == Tracked()


def test_metric_that_the_last_stage_lacks_is_not_shown_as_its_own() -> None:
    record = run_record()
    last = record.stages[-1]
    assert last.report is not None
    metrics = {name: metric for name, metric in last.report.metrics.items() if name != "load_s"}
    report = last.report.model_copy(update={"metrics": metrics})
    record = record.model_copy(update={"stages": (*record.stages[:-1], last.model_copy(update={"report": report}))})
    assert "load_s" not in {name for name, _, _ in series(record)}


def test_description_says_what_each_stage_cost() -> None:
    record = run_record(cached=True).model_copy(update={"serve": "dist/a/serve.sh"})
    assert description(record).splitlines() == [
        "**passed**",
        "",
        "Serve it: `dist/a/serve.sh`",
        "",
        "| stage | made in | measured in | size | verdict |",
        "|---|---|---|---|---|",
        "| source | 4.1 s (cached) | 0.0 s | 91.7 MB | not judged |",
        "| import_gguf | 14 s (cached) | 1 min 1 s | 538 MB | not judged |",
        "| gguf | 9.0 s (cached) | 1 min 10 s | 271 MB | flagged |",
        "| quantize_gguf | 3.4 s (cached) | 2 min 25 s | 138 MB | flagged |",
    ]


def test_tracking_imports_nothing_heavy() -> None:
    heavy = ("mlflow", "matplotlib", "prefect", "rich")
    script = f"import sys, pipelines.tracking.sending; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_comparison_is_a_parent_with_a_page_and_a_child_for_each_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = run_record().model_copy(update={"mlflow_run": store.passed.mlflow_run})
    weighed = first.stages[-1].model_copy(update={"bits_a_weight": 8.196})
    runs = [
        first.model_copy(update={"stages": (*first.stages[:-1], weighed)}),
        run_record("halted", 0.071).model_copy(update={"name": "other"}),
    ]
    with writer() as process:
        tracked = track_comparison(runs, store.home, process)

    assert (tracked.problem, tracked.experiment) == ("", "comparisons")
    assert sorted(path.name for path in store.artifacts(tracked).iterdir()) == [
        *("comparison.html", "comparison.json", "comparison.png")
    ]
    children = store.rows(
        "select name, status, run_uuid from runs join tags using (run_uuid) where key = 'mlflow.parentRunId' "
        "and value = ? order by name",
        tracked.mlflow_run or "",
    )
    assert [child[:2] for child in children] == [("other", "FAILED"), ("smol-q6k", "FINISHED")]
    passed = Tracked(mlflow_run=children[1][2])
    assert store.table("tags", passed)["run"] == store.passed.mlflow_run
    assert store.table("tags", passed)["method"] == "quantize_gguf: precision q6_k"
    metrics = store.table("metrics", passed)
    assert metrics["perplexity"] == pytest.approx(30.45 * 1.0139)
    assert (metrics["bits_a_weight"], metrics["seconds_to_produce"]) == (8.196, pytest.approx(30.7))
