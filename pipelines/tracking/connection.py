"""Imports MLflow without what nothing here uses of it, and connects to it."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.mlflow_process import database
from pipelines.tracking.patient import patient

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SERVER = ("http://", "https://")
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a server that is away costs minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Connection:
    """A client of MLflow, the tracking URI it speaks to, and Tapeout's home."""

    client: MlflowClient
    uri: str
    home: Path

    @property
    def on_this_machine(self) -> bool:
        """Whether it is a database; a server refuses paths of other machines."""
        return not self.uri.startswith(SERVER)

    def patient(self) -> Connection:
        """The same, whose calls are made again while what it speaks to is away."""
        return replace(self, client=patient(self.client))

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made unless it is there."""
        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        # a server has a place of its own; a database would take `mlruns` of whatever folder the process was started in
        place = (self.home / "mlflow" / "artifacts").as_uri() if self.on_this_machine else None
        return str(self.client.create_experiment(name, artifact_location=place))


def connect(home: Path) -> Connection:
    """To MLFLOW_TRACKING_URI, or to the embedded store."""
    from mlflow.tracking import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or embedded(home)
    if uri == embedded(home):
        database(home).parent.mkdir(parents=True, exist_ok=True)
    return Connection(MlflowClient(tracking_uri=uri), uri, home)


def embedded(home: Path) -> str:
    """The tracking URI of the store in Tapeout's home."""
    return f"sqlite:///{database(home)}"


def import_mlflow() -> None:
    """MLflow without what nothing here uses of it; turns garbage collection off."""
    for name, text in DEFAULTS.items():
        os.environ.setdefault(name, text)
    # MLflow runs without pandas (as mlflow-skinny), which saves 0.3 s and 47 MB of an import that nothing here uses.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    gc.disable()  # a fifth of the time of importing; a run is too few events to need it later
    import mlflow.tracking

    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith(SERVER):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - 0.6 s that the first connection would take
