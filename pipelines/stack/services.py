"""The three services of a stack, and the temporary Prefect server of a run that finds none."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.mlflow_process import database
from pipelines.stack.running import Running, folder
from pipelines.stack.service import Need, Service

POOL = "tapeout"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::")
PREFECT_DEFAULTS = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
}
UVICORN_PREFECT = ("--factory", "prefect.server.api.server:create_app", "--log-level", "warning", "--lifespan", "on")


@dataclass(frozen=True)
class Places:
    """Where the services listen, and on what databases. Without the databases' URLs both are SQLite files at home."""

    home: Path
    host: str = "127.0.0.1"
    prefect_port: int = 4200
    worker_port: int = 4201
    mlflow_port: int = 5000
    prefect_database: str | None = None
    mlflow_database: str | None = None

    @property
    def reached_at(self) -> str:
        """The host by which this machine reaches them."""
        own = "127.0.0.1" if self.host in ANY else self.host
        return f"[{own}]" if ":" in own else own

    @property
    def asked_at(self) -> str:
        """Where Prefect's pages, in a browser anywhere, ask for data: this machine's name if all may come in."""
        told = os.environ.get("PREFECT_SERVER_UI_API_URL") or os.environ.get("PREFECT_UI_API_URL")
        host = socket.gethostname() if self.host in ANY else self.reached_at
        return told or f"http://{host}:{self.prefect_port}/api"

    def running(self, pid: int) -> Running:
        """The stack once it is up."""
        return Running(
            pid=pid,
            prefect=f"http://{self.reached_at}:{self.prefect_port}",
            worker=f"http://127.0.0.1:{self.worker_port}",
            mlflow=f"http://{self.reached_at}:{self.mlflow_port}",
            mlflow_store=self.mlflow_database or f"sqlite:///{database(self.home)}",
            pool=POOL,
        )


def prefect_variables(home: Path) -> dict[str, str]:
    """Prefect's settings, unless the user has set them: quiet, its own database in Tapeout's home, no analytics."""
    return {"PREFECT_HOME": str(home / "prefect"), **PREFECT_DEFAULTS} | {
        name: os.environ[name] for name in ("PREFECT_HOME", *PREFECT_DEFAULTS) if name in os.environ
    }


def prefect_server(places: Places, more: Mapping[str, str] | None = None) -> Service:
    """Prefect's API and pages."""
    stack, own = places.running(0), {"PREFECT_API_DATABASE_CONNECTION_URL": places.prefect_database or ""}
    return Service(
        name="the Prefect server",
        module="uvicorn",
        arguments=(*UVICORN_PREFECT, "--host", places.host, "--port", str(places.prefect_port)),
        health=stack.health["Prefect"],
        log=folder(places.home) / "prefect.log",
        variables={
            **prefect_variables(places.home),
            **{name: url for name, url in own.items() if url},
            "PREFECT_SERVER_UI_API_URL": places.asked_at,
            "PREFECT_SERVER_API_HOST": places.host,
            "PREFECT_SERVER_API_PORT": str(places.prefect_port),
            "PREFECT__SERVER_FINAL": "1",
            # in memory, a server that is started again has forgotten which runs hold their deployment's only place
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            **(more or {}),
        },
    )


def temporary_prefect_server(home: Path, port: int) -> Service:
    """For one run: no pages, none of the services that act on schedules."""
    off = {"PREFECT_SERVER_UI_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1"}
    return prefect_server(Places(home=home, prefect_port=port), off)


def mlflow_server(places: Places) -> Service:
    """MLflow's pages over the store that runs write to."""
    stack = places.running(0)
    return Service(
        name="the MLflow server",
        module="mlflow",
        arguments=(
            *("server", "--host", places.host, "--port", str(places.mlflow_port), "--workers", "1"),
            *("--backend-store-uri", stack.mlflow_store, "--registry-store-uri", stack.mlflow_store),
            *("--default-artifact-root", (places.home / "mlflow" / "artifacts").as_uri()),
        ),
        health=stack.health["MLflow"],
        log=folder(places.home) / "mlflow.log",
        variables={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that nothing here gives work
            "GIT_PYTHON_REFRESH": "quiet",
        },
    )


def prefect_worker(places: Places, scratch: Path) -> Service:
    """Runs deployments of the pool `tapeout`, each as a process, one at a time.

    Prefect keeps its files in TMPDIR/runner_storage, where the first user of a machine shuts out every other: the
    temporary files of the worker and its runs are in `scratch`.
    """
    stack = places.running(0)
    return Service(
        name="the worker",
        module="prefect",
        arguments=(
            *("--no-prompt", "worker", "start", "--pool", POOL, "--type", "process", "--name", "tapeout"),
            *("--limit", "1", "--with-healthcheck", "--install-policy", "never"),
        ),
        health=stack.health["worker"],
        log=folder(places.home) / "worker.log",
        variables={
            **prefect_variables(places.home),
            "PREFECT_API_URL": stack.api,
            "MLFLOW_TRACKING_URI": stack.mlflow_store,
            "TAPEOUT_HOME": str(places.home),
            "TMPDIR": str(scratch),
            "PATH": os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")])),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(places.worker_port),
        },
        need=Need(stack.health["Prefect"], ahead="prefect.workers.process"),
    )
