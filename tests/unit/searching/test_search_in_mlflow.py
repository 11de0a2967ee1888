"""A search as a real MLflow has it: an SQLite file, and a server of this machine."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from spaces import Lab, Noisy

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from pipelines.mlflow_process import database
from pipelines.searching.forecast import Forecaster
from pipelines.searching.trials import SearchRecord
from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import Places, mlflow_server

pytestmark = pytest.mark.slow  # real MLflow databases, each set up once

NOISE, FAIL = "steps.2.dummy.noise", "steps.2.dummy.fail"
SEARCH = f"""search:
  space: {{{NOISE}: [0.0, 0.05, 1.5], {FAIL}: ['', refuse]}}
  exclude: [{{{NOISE}: [0.0, 1.5], {FAIL}: refuse}}]
  objectives: [size_bytes, perplexity]
  first_windows: 2
"""
ENDS = {"passed": "FINISHED", "pruned": "FINISHED", "over budget": "FAILED", "failed": "FAILED"}


def lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """One point that passes, one over budget, one that fails, and one that the planner rules out by its size."""
    found = Lab(folder, SEARCH)
    text = found.bench.config.read_text()
    found.bench.config.write_text(text.replace("budgets:\n", "budgets:\n  - {metric: size_bytes, max: 970 kB}\n"))
    monkeypatch.setattr(Forecaster, "of", lambda *_: Noisy())
    return found


class Database:
    """MLflow's own tables."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file)

    def status(self, run: str) -> str:
        return str(self._all("select status from runs where run_uuid = ?", run)[0][0])

    def children(self, parent: str) -> list[str]:
        query = (
            "select run_uuid from tags join runs using (run_uuid) where key = 'mlflow.parentRunId' and value = ? "
            "order by start_time, cast(name as integer)"
        )
        return [str(row[0]) for row in self._all(query, parent)]

    def table(self, name: str, run: str) -> dict[str, object]:
        return dict(self._all(f"select key, value from {name} where run_uuid = ?", run))  # type: ignore[arg-type]

    def _all(self, query: str, *values: str) -> list[tuple[object, ...]]:
        return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        self._connection.close()


def assert_every_trial_is_a_child(record: SearchRecord, tables: Database) -> None:
    assert record.mlflow_run is not None
    assert {trial.verdict for trial in record.trials} == set(ENDS)
    found = {}
    for run in tables.children(record.mlflow_run):
        told = tables.table("tags", run)
        found[str(told["label"])] = (run, told)
    assert set(found) == {trial.label for trial in record.trials}
    for trial in record.trials:
        run, told = found[trial.label]
        assert (told["verdict"], tables.status(run)) == (trial.verdict, ENDS[trial.verdict])
        assert told.get("reason", "") == trial.reason
        assert tables.table("params", run) == {
            NOISE: json.dumps(trial.point[NOISE]), FAIL: str(trial.point[FAIL])
        }  # fmt: skip
        measured = tables.table("latest_metrics", run)
        assert measured["pred_size_bytes"] == trial.forecast.size_bytes
        assert {name: measured[name] for name in trial.figures} == {
            name: interval.value for name, interval in trial.figures.items()
        }


def assert_the_parent_tells_what_came_of_it(record: SearchRecord, tables: Database) -> None:
    assert record.mlflow_run is not None
    assert record.chosen is not None
    told, counted = (tables.table(name, record.mlflow_run) for name in ("tags", "latest_metrics"))
    assert tables.status(record.mlflow_run) == "FINISHED"
    assert (told["verdict"], told["chosen"]) == ("found", record.trial(record.chosen).label)
    assert counted["trials"] == len(record.trials)
    assert counted["size_bytes"] == record.trial(record.chosen).figures["size_bytes"].value


def test_every_trial_is_a_child_run_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    searched = lab(tmp_path, monkeypatch)

    record = searched.search(tracked=True)

    with closing(Database(database(searched.bench.home))) as tables:
        assert_every_trial_is_a_child(record, tables)
        assert_the_parent_tells_what_came_of_it(record, tables)
    attached = searched.bench.home / "mlflow" / "artifacts" / (record.mlflow_run or "") / "artifacts"
    assert {"search.json", "front.png", "chosen.yaml", "config.yaml"} <= {file.name for file in attached.iterdir()}


def test_a_second_session_adds_its_trials_to_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    searched = lab(tmp_path, monkeypatch)
    first = searched.search(tracked=True, trials=1)

    whole = searched.search(tracked=True)

    assert whole.mlflow_run == first.mlflow_run
    with closing(Database(database(searched.bench.home))) as tables:
        assert_every_trial_is_a_child(whole, tables)
        assert_the_parent_tells_what_came_of_it(whole, tables)


@contextmanager
def served(home: Path) -> Iterator[str]:
    places = Places(home, mlflow_port=free_port())
    with Child(mlflow_server(places)) as child:
        child.wait_until_well()
        yield places.running(0).mlflow


def test_every_trial_is_a_child_run_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / "server"
    (far / "mlflow").mkdir(parents=True)
    with served(far) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        record = lab(tmp_path, monkeypatch).search(tracked=True)
        wanted = {"experiment_ids": ["1"], "filter": f"tags.`mlflow.parentRunId` = '{record.mlflow_run}'"}
        plain = {"Content-Type": "application/json"}
        asked = Request(f"{uri}/api/2.0/mlflow/runs/search", json.dumps(wanted).encode(), plain)
        with urlopen(asked) as answer:
            listed = json.load(answer)["runs"]

    assert len(listed) == len(record.trials) == 4
    with closing(Database(database(far))) as tables:
        assert_every_trial_is_a_child(record, tables)
        assert_the_parent_tells_what_came_of_it(record, tables)
