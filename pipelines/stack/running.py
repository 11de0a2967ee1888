"""Is a stack up in this home, and where? Imports next to nothing: every run asks before anything else."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.home import try_lock


@dataclass(frozen=True)
class Running:
    """A stack that is up. Addresses are URLs; `mlflow_store` is where runs are written, past the MLflow server."""

    pid: int
    prefect: str
    worker: str
    mlflow: str
    mlflow_store: str
    pool: str

    @property
    def api(self) -> str:
        """Of Prefect, as PREFECT_API_URL."""
        return f"{self.prefect}/api"

    @property
    def health(self) -> dict[str, str]:
        """By service, the address that answers when it is well."""
        return {
            "Prefect": f"{self.api}/health",
            "MLflow": f"{self.mlflow}/health",
            "worker": f"{self.worker}/health",
        }


def folder(home: Path) -> Path:
    """What the stack keeps: its addresses, its lock, its logs."""
    return home / "stack"


def lock(home: Path) -> Path:
    """Held for as long as a stack is up."""
    return folder(home) / "lock"


def running(home: Path) -> Running | None:
    """The stack that is up in this home, or None. A file that a killed stack left behind is not taken for one."""
    try:
        text = _file(home).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    with try_lock(lock(home), shared=True) as free:
        return None if free else Running(**json.loads(text))


def announce(home: Path, stack: Running) -> None:
    """Leave the addresses for `running`; readable by the user alone, since a database's URL may hold a password."""
    work = _file(home).with_suffix(".new")
    work.touch(mode=0o600)
    work.write_text(json.dumps(asdict(stack)), encoding="utf-8")
    work.replace(_file(home))


def withdraw(home: Path) -> None:
    """The stack is going down."""
    _file(home).unlink(missing_ok=True)


def adopt(home: Path) -> Running | None:
    """Let what this process starts use the stack that is up, unless the user's environment names other servers."""
    stack = running(home)
    if stack:
        os.environ.setdefault("PREFECT_API_URL", stack.api)
        os.environ.setdefault("MLFLOW_TRACKING_URI", stack.mlflow_store)
    return stack


def _file(home: Path) -> Path:
    return folder(home) / "stack.json"
