"""The event by which a checkpoint reaches Prefect: over its REST API, so that the watch need not import it."""

from __future__ import annotations

import json
import urllib.request
import uuid
from datetime import UTC, datetime
from typing import Any

from pipelines.errors import UserError
from pipelines.watching.ledger import Checkpoint

LANDED = "tapeout.checkpoint.landed"
LIMIT_S = 10.0
UNENDED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


def resource(name: str) -> str:
    """Prefect's id of a config, which the automation of its deployment matches."""
    return f"tapeout.config.{name}"


def emit(api: str, name: str, checkpoint: Checkpoint) -> str:
    """Tell the server at PREFECT_API_URL that a checkpoint for the config landed; what went wrong, or nothing."""
    event = {
        "id": str(uuid.uuid4()),
        "event": LANDED,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": resource(name), "prefect.resource.name": name},
        "related": [],
        "payload": {"checkpoint": checkpoint.digest, "name": checkpoint.name, "attempt": checkpoint.attempts + 1},
    }
    try:
        with urllib.request.urlopen(_post(f"{api}/events", [event]), timeout=LIMIT_S):
            return ""
    except OSError as error:
        return f"Prefect at {api} does not take the event: {getattr(error, 'reason', error)}"


def waits(api: str, name: str, checkpoint: Checkpoint) -> bool:
    """Whether another event would be one too many: the config's deployment has a flow run with the checkpoint that has
    not ended, or it is paused.

    Raises:
        UserError: the server does not answer.
    """
    deployed = {"flows": {"name": {"any_": ["tapeout"]}}, "deployments": {"name": {"any_": [name]}}}
    unended = {"flow_runs": {"state": {"type": {"any_": UNENDED}}}, "sort": "EXPECTED_START_TIME_ASC", **deployed}
    runs = _found(api, "flow_runs", unended)
    if any(run["parameters"].get("checkpoint") == checkpoint.digest for run in runs):
        return True
    return any(deployment["paused"] for deployment in _found(api, "deployments", deployed))


def _found(api: str, what: str, filters: dict[str, Any]) -> list[Any]:
    try:
        with urllib.request.urlopen(_post(f"{api}/{what}/filter", filters), timeout=LIMIT_S) as answer:
            found: list[Any] = json.load(answer)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise UserError(f"Prefect at {api} cannot be asked for {what}: {why}", "tapeout up") from error
    return found


def _post(url: str, body: object) -> urllib.request.Request:
    return urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
