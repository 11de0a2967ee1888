"""The event by which a checkpoint reaches Prefect: over its REST API, so that the watch need not import it."""

from __future__ import annotations

import json
import urllib.request
import uuid
from datetime import UTC, datetime

from pipelines.watching.ledger import Checkpoint

LANDED = "tapeout.checkpoint.landed"
LIMIT_S = 10.0


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
    request = urllib.request.Request(
        f"{api}/events", json.dumps([event]).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S):
            return ""
    except OSError as error:
        return f"Prefect at {api} does not take the event: {getattr(error, 'reason', error)}"
