"""Tells a webhook how a run ended. A receiver that is away, wrong or hanging costs a line and a few seconds."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

from pydantic import Field

from pipelines.records import RunRecord
from pipelines.redaction import redacted
from stages.base import Frozen


class Notify(Frozen):
    """Whom to tell how a run ended."""

    webhook: str = Field(pattern=r"^https?://", description="gets a POST of JSON; `${env:NAME}` keeps a token secret")
    timeout_s: float = Field(5.0, gt=0, le=60, description="seconds in all, however slowly it answers")


def notify(settings: Notify, run: RunRecord) -> str:
    """Post the run's end; what went wrong, or nothing."""
    problems = ["gave no answer in time"]
    # a socket's own limit starts anew with every byte, so a receiver that trickles would hold the run
    poster = threading.Thread(target=_post, args=(settings, body(run), problems), daemon=True)
    poster.start()
    poster.join(settings.timeout_s)
    return problems[0]


def body(run: RunRecord) -> bytes:
    """What the webhook gets; `text` is what chat services show."""
    run = redacted(run, run.config_text)
    promoted = run.promotion
    became = f"; {promoted.decision}: {promoted.reason}" if promoted else ""
    told = {
        "text": f"{run.name}: {run.status}{f': {run.message}' if run.message else ''}{became}",
        "name": run.name,
        "status": run.status,
        "message": run.message,
        "promotion": promoted.model_dump(mode="json", exclude={"report"}) if promoted else None,
        "model_version": run.model_version,
        "mlflow_run": run.mlflow_run,
        "prefect_run": run.prefect_run,
        "started": run.started,
    }
    return json.dumps(told).encode()


def _post(settings: Notify, content: bytes, problems: list[str]) -> None:
    request = urllib.request.Request(settings.webhook, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=settings.timeout_s):
            problems[0] = ""
    except urllib.error.HTTPError as error:
        problems[0] = f"answered {error.code}"
    except (OSError, ValueError) as error:
        problems[0] = f"cannot be reached: {getattr(error, 'reason', error)}"
