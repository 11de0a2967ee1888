"""A client of MLflow that waits for a database, or a server, that went away in the middle of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

T = TypeVar("T")
PATIENCE_S, PAUSE_S = 60.0, 1.0
NOT_TWICE = frozenset({"create_model_version"})
"""Whoever calls it looks first whether the version is there: its answer may be what was lost."""


def patient(client: MlflowClient, patience_s: float = PATIENCE_S) -> MlflowClient:
    """The same client, whose calls are made again while what it speaks to is away."""
    return cast("MlflowClient", _Patient(client, patience_s))


def patiently(work: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The work's result; it is done again while the database or the server is away, for at most so many seconds.

    Raises:
        MlflowException: it stayed away, or something else is wrong.
    """
    from mlflow.exceptions import MlflowException

    deadline = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except MlflowException as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)


def is_away(error: MlflowException) -> bool:
    """Whether the same call may succeed later: no connection, a lost one, a locked file, a server that is starting."""
    lost = getattr(error.__cause__, "connection_invalidated", False)
    unreachable = error.message.startswith("API request to ") and "failed with exception" in error.message
    return error.error_code == "TEMPORARILY_UNAVAILABLE" or bool(lost) or unreachable


class _Patient:
    def __init__(self, client: MlflowClient, patience_s: float) -> None:
        self._client, self._patience_s = client, patience_s

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in NOT_TWICE or not callable(method):
            return method
        return lambda *given, **named: patiently(lambda: method(*given, **named), self._patience_s)
