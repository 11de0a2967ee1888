"""Tells others how a run ended. A receiver that is away, wrong or hanging costs a line and a few seconds."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Self

from pydantic import Field, model_validator

from pipelines.records import RunRecord
from pipelines.redaction import redacted
from stages.base import Frozen


class Notify(Frozen):
    """Whom to tell how a run ended."""

    webhook: str | None = Field(
        None, pattern=r"^https?://", description="gets a POST of JSON; `${env:NAME}` keeps a token secret"
    )
    block: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="a notification block that Prefect keeps, by type and name: `slack-webhook/team`",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="seconds for each in all, however slowly it answers")

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if self.webhook is None and self.block is None:
            raise ValueError("nobody is told: give a `webhook`, or a `block` of Prefect")
        return self


def notify(settings: Notify, run: RunRecord) -> list[str]:
    """Tell of the run's end; a line for each of them that could not be told."""
    run = redacted(run, run.config_text)
    problems = []
    if settings.webhook and (problem := _in_time(settings.timeout_s, lambda: _post(settings, body(run)))):
        problems.append(f"webhook: {problem}")
    if settings.block and (problem := _in_time(settings.timeout_s, lambda: _through_prefect(str(settings.block), run))):
        problems.append(f"block {settings.block}: {problem}")
    return problems


def body(run: RunRecord) -> bytes:
    """What the webhook gets; `text` is what chat services show."""
    promoted = run.promotion
    told = {
        "text": text(run),
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


def text(run: RunRecord) -> str:
    """How it ended and why, and what became of the champion."""
    became = f"; {run.promotion.decision}: {run.promotion.reason}" if run.promotion else ""
    return f"{run.name}: {run.status}{f': {run.message}' if run.message else ''}{became}"


def _in_time(seconds: float, tell: Callable[[], str]) -> str:
    """What went wrong, or nothing. A socket's own limit starts anew with every byte; a receiver may trickle."""
    problems = ["gave no answer in time"]

    def told() -> None:
        problems[0] = tell()

    teller = threading.Thread(target=told, daemon=True)
    teller.start()
    teller.join(seconds)
    return problems[0]


def _post(settings: Notify, content: bytes) -> str:
    request = urllib.request.Request(str(settings.webhook), content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=settings.timeout_s):
            return ""
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'reason', error)}"


def _through_prefect(name: str, run: RunRecord) -> str:
    if run.prefect_run is None:
        return "is Prefect's, and the run was without it"
    import httpx
    import prefect.blocks.notifications  # noqa: F401  (knows the types of blocks)
    from prefect.blocks.abstract import NotificationBlock, NotificationError
    from prefect.blocks.core import Block

    try:
        found = Block.load(name)
        if not isinstance(found, NotificationBlock):
            return "is no notification block"
        found.notify(text(run), subject=f"Tapeout: {run.name} {run.status}")  # type: ignore[unused-coroutine]
    except (ValueError, httpx.HTTPError, NotificationError) as error:
        return " ".join(str(error).split())
    return ""
