"""Who is champion: the aliases of a registered model, moved under a lock, and what its description says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.home import locked
from pipelines.promotion import Champion
from pipelines.records import RunRecord

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
KEPT_LINES = 20


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Version by alias; empty where nothing is registered under the name."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: str(version) for alias, version in found.aliases.items()}


def champion(client: MlflowClient, name: str) -> Champion | None:
    """The version that carries the alias."""
    version = aliases(client, name).get(CHAMPION)
    if version is None:
        return None
    found = client.get_model_version(name, version)
    return Champion(version=version, digest=found.tags.get("digest", ""), source=found.source)


def promote(client: MlflowClient, home: Path, name: str, version: str, compared_with: str | None) -> str:
    """Let the version be champion unless another became it since the comparison; why not, or nothing.

    `champion` moves in one transaction of the registry: at no moment are there two, or none. The lock holds for this
    home alone. Another home's run is seen before the move and after it; MLflow moves no alias on a condition, so that
    one which moves it right after that is not.
    """
    with locked(home / "mlflow" / "promotion.lock"):
        now = aliases(client, name).get(CHAMPION)
        if now == version:
            return ""
        if now != compared_with:
            return _changed(now)
        if now:
            client.set_registered_model_alias(name, PREVIOUS, now)
        client.set_registered_model_alias(name, CHAMPION, version)
        now = aliases(client, name).get(CHAMPION)
    return "" if now == version else _changed(now)


def _changed(now: str | None) -> str:
    return f"the champion changed meanwhile to version {now}" if now else "the champion's alias was removed meanwhile"


def rollback(client: MlflowClient, home: Path, name: str) -> tuple[str, str]:
    """Exchange champion and previous; the new champion's version and the old one's.

    Raises:
        UserError: there is nothing to go back to.
    """
    with locked(home / "mlflow" / "promotion.lock"):
        known = aliases(client, name)
        old, new = known.get(CHAMPION), known.get(PREVIOUS)
        if old is None or new is None or old == new:
            hint = "a name is a config's `name`; a champion has a previous one once another was promoted over it"
            raise UserError(f"{name} has no previous champion to go back to", hint)
        client.set_registered_model_alias(name, CHAMPION, new)
        client.set_registered_model_alias(name, PREVIOUS, old)
        note(client, name, f"rolled back from version {old} to version {new}")
    return new, old


def outcome_line(run: RunRecord, version: str | None, reason: str) -> str:
    """One line on a run for the registered model's description."""
    what = f"version {version}" if version else f"no version, the run {run.status}"
    return f"{what}: {reason or run.message or run.status}"


def note(client: MlflowClient, name: str, line: str) -> None:
    """Put a line on top of the model's description, below who is champion; the latest twenty stay."""
    known = aliases(client, name)
    old = [text for text in (client.get_registered_model(name).description or "").splitlines() if text[:2] == "- "]
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    lines = [f"- {stamp} UTC, {' '.join(line.split())}", *old][:KEPT_LINES]
    heading = f"Champion: version {known.get(CHAMPION, 'none')}; previous: {known.get(PREVIOUS, 'none')}"
    client.update_registered_model(name, "\n".join([heading, "", *lines]))
