"""Registers what a run leaves as a model version, and lets it be champion if the comparison says so."""

from __future__ import annotations

from pathlib import Path

from pipelines.promotion import Promoted
from pipelines.records import RunRecord
from pipelines.tracking import champions
from pipelines.tracking.calls import LONGEST_TAG
from pipelines.tracking.connection import Connection
from pipelines.tracking.patient import patiently

LONGEST_BUDGETS = 4000


def register(connection: Connection, run_id: str, run: RunRecord, bundle: Path) -> str:
    """`name/version` of the run's name that holds this artifact under these budgets, made unless it is there."""
    return patiently(lambda: _known(connection, run, bundle) or _made(connection, run_id, run, bundle))


def promote(connection: Connection, run: RunRecord, version: str, promoted: Promoted) -> str:
    """Move the alias if the comparison says so; why it was not moved all the same, or nothing."""
    if promoted.decision == "kept":
        return ""
    return champions.promote(connection.client, connection.home, run.name, version, promoted.champion)


def tell(connection: Connection, run_id: str, run: RunRecord, version: str, promoted: Promoted, against: str) -> None:
    """Write what came of the comparison on the run, the version and the model; `against` as `promote` gave it."""
    client = connection.client
    decision = "kept" if against else promoted.decision
    promotion = f"{decision}: {against or promoted.reason}"[:LONGEST_TAG]
    client.set_tag(run_id, "promotion", promotion)
    tags = client.get_model_version(run.name, version).tags
    if promoted.champion != version or "promotion" not in tags:  # a champion keeps the word that made it one
        client.set_model_version_tag(run.name, version, "promotion", promotion)
        client.update_model_version(run.name, version, f"{promotion}\n\n{tags.get('budgets', '')}")
    champions.note(client, run.name, champions.outcome_line(run, version, promotion))


def _known(connection: Connection, run: RunRecord, bundle: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    tags = _tags(run)
    try:
        connection.client.create_registered_model(run.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for known in connection.client.search_model_versions(f"name = '{run.name}'"):
        holds = not connection.on_this_machine or known.source == bundle.absolute().as_uri()
        if tags.items() <= known.tags.items() and holds:
            return f"{run.name}/{known.version}"
    return None


def _made(connection: Connection, run_id: str, run: RunRecord, bundle: Path) -> str:
    tags = _tags(run)
    source = _source(connection, run_id, bundle)
    made = connection.client.create_model_version(run.name, source, run_id, tags=tags, description=tags["budgets"])
    return f"{run.name}/{made.version}"


def _tags(run: RunRecord) -> dict[str, str]:
    last = next((stage for stage in reversed(run.stages) if not stage.unmeasured), run.stages[-1])
    budgets = "; ".join(verdict.message for verdict in last.verdicts) or "none"
    return {"digest": run.stages[-1].artifact or "", "verdict": run.status, "budgets": budgets[:LONGEST_BUDGETS]}


def _source(connection: Connection, run_id: str, bundle: Path) -> str:
    """The bundle where it lies; on a server, which refuses paths of other machines, a copy among its artifacts."""
    if connection.on_this_machine:
        return bundle.absolute().as_uri()
    connection.client.log_artifacts(run_id, str(bundle), "bundle")
    return f"{connection.client.get_run(run_id).info.artifact_uri}/bundle"
