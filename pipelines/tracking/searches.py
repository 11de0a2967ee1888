"""Writes a search to MLflow: a parent run, and a child for every trial, those that were never made included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.searching.trials import Trial
from pipelines.tracking import statuses
from pipelines.tracking.calls import at_step, create, log
from pipelines.tracking.connection import connect
from pipelines.tracking.lines import Line, Searched, Searching, Tracked, Tried
from pipelines.tracking.params import flat

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def follow(opening: Searching, lines: Iterable[Line], answer: Callable[[Tracked], None]) -> None:
    """Write one search. Lines that end without a closing one mean that the orchestrator was killed."""
    connection = connect(opening.home)
    client, experiment = connection.client, connection.experiment(opening.name)
    parent = _parent(opening, client, experiment)
    answer(Tracked(mlflow_run=parent, experiment=opening.name))
    for line in lines:
        if isinstance(line, Tried):
            _child(client, experiment, parent, line.trial)
        elif isinstance(line, Searched):
            _finish(client, parent, line)
            return
    client.set_terminated(parent, "KILLED")


def _parent(opening: Searching, client: MlflowClient, experiment: str) -> str:
    """The search's run: the one of its earlier session, where MLflow still has it."""
    from mlflow.exceptions import MlflowException

    if opening.resumes:
        try:
            client.update_run(opening.resumes, status="RUNNING")
        except MlflowException:
            pass
        else:
            return opening.resumes
    tags = {"search": "true", "config": opening.config_path, "mlflow.source.name": opening.config_path}
    run = create(client, experiment, f"search-{opening.started[11:19].replace(':', '')}", tags)
    client.log_text(run, opening.config_text, "config.yaml")
    return run


def _child(client: MlflowClient, experiment: str, parent: str, trial: Trial) -> None:
    told = {"verdict": trial.verdict, "look": trial.look, "reason": trial.reason, "label": trial.label}
    told |= {"mlflow.parentRunId": parent, "artifact_digest": trial.artifact or ""}
    tags = {name: text for name, text in told.items() if text}
    run = create(client, experiment, f"{trial.number}-{trial.label}", tags)
    log(client, run, flat("", trial.point), at_step(_metrics(trial)))
    client.set_terminated(run, statuses.TRIAL[trial.verdict])


def _metrics(trial: Trial) -> dict[str, float]:
    found = {name: interval.value for name, interval in trial.figures.items()}
    expected: dict[str, Any] = trial.forecast.model_dump(exclude={"prior"}, exclude_none=True)
    return found | {f"pred_{name}": value for name, value in expected.items()} | {"seconds": trial.seconds}


def _finish(client: MlflowClient, parent: str, line: Searched) -> None:
    record = line.record
    chosen = record.trial(record.chosen) if record.chosen is not None else None
    told = {"verdict": record.status, "stopped": record.stopped, "chosen": chosen.label if chosen else ""}
    found = {name: interval.value for name, interval in chosen.figures.items()} if chosen else {}
    counts = {"trials": len(record.trials), "front": len(record.front), "seconds": record.seconds}
    log(client, parent, {}, at_step(found | counts), {name: text for name, text in told.items() if text})
    for file in sorted(Path(line.folder).glob("*")):
        if file.suffix in {".json", ".png", ".yaml"}:
            client.log_artifact(parent, str(file))
    client.set_terminated(parent, statuses.SEARCH[record.status])
