"""Writes a comparison to MLflow: a parent run, and a child for each of the runs that it compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipelines.records import RunRecord
from pipelines.reporting.methods import method_of
from pipelines.tracking import statuses
from pipelines.tracking.calls import at_step, create, log
from pipelines.tracking.connection import connect
from pipelines.tracking.lines import Comparing, Tracked
from pipelines.tracking.metrics import stage_metrics
from pipelines.tracking.tags import device_tags

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "comparisons"


def compare(comparing: Comparing, answer: Callable[[Tracked], None]) -> None:
    """A parent run with the page, the chart and the records, and a child with each run's numbers.

    The runs themselves lie in experiments of their own, where MLflow nests nothing of another; a child names its run.
    """
    connection = connect(comparing.home)
    client, experiment = connection.client, connection.experiment(EXPERIMENT)
    name = " / ".join(record.name for record in comparing.records)
    parent = create(client, experiment, name, {})
    for record in comparing.records:
        _child(client, experiment, parent, record)
    with TemporaryDirectory() as folder:
        _write(list(comparing.records), Path(folder))
        client.log_artifacts(parent, folder)
    client.set_terminated(parent, "FINISHED")
    answer(Tracked(mlflow_run=parent, experiment=EXPERIMENT))


def _child(client: MlflowClient, experiment: str, parent: str, record: RunRecord) -> None:
    run = create(client, experiment, record.name, _tags(record) | {"mlflow.parentRunId": parent})
    log(client, run, {}, at_step(_metrics(record)))
    client.set_terminated(run, statuses.RUN[record.status])


def _write(records: list[RunRecord], folder: Path) -> None:
    from pipelines.reporting.comparison_page import page
    from pipelines.reporting.comparison_picture import chart

    (folder / "comparison.html").write_text(page(records), encoding="utf-8")
    if png := chart(records):
        (folder / "comparison.png").write_bytes(png)
    text = "[" + ",\n".join(record.model_dump_json() for record in records) + "]\n"
    (folder / "comparison.json").write_text(text, encoding="utf-8")


def _tags(run: RunRecord) -> dict[str, str]:
    """What it was, and where the whole run is."""
    named = {
        "run": run.mlflow_run,
        "config": run.config_path,
        "method": method_of(run),
        "verdict": run.status,
        "message": run.message,
    }
    return {name: text for name, text in named.items() if text} | device_tags(run.device)


def _metrics(run: RunRecord) -> dict[str, float]:
    """The numbers of its last measured stage."""
    measured = [stage for stage in run.stages if stage.report and stage.role != "reference"]
    made = {"seconds_to_produce": sum(stage.seconds for stage in run.stages)}
    return (stage_metrics(measured[-1]) if measured else {}) | made
