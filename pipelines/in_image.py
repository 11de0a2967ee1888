"""What a deployment to a `docker` or `kubernetes` pool names in place of this machine's paths: those of the images."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from pipelines.config import LoadedConfig
from pipelines.errors import UserError
from stages.base import ROOT

IMAGE = "tapeout:cpu"
PROJECT, HOME = PurePosixPath("/opt/tapeout"), PurePosixPath("/var/lib/tapeout")
COMMAND = "flow-run"  # the worker's command comes behind the images' entry point, which is `tapeout`


def config_there(loaded: LoadedConfig) -> str:
    """Where the image has the config.

    Raises:
        UserError: the image has no such file, or the config waits for checkpoints, which the watch's home alone knows.
    """
    if loaded.config.trigger:
        raise UserError(
            "a config with `trigger:` runs where `tapeout watch` keeps its checkpoints: a container has another home",
            "deploy it to a pool of type process, or leave `trigger:` out and run it by --cron or --every",
        )
    configs = (ROOT / "configs").resolve()
    path = loaded.path.resolve()
    if not path.is_relative_to(configs):
        raise UserError(f"{path}: the images hold what lies in {configs}", "put the config there, and build the image")
    return str(PROJECT / "configs" / path.relative_to(configs))


def dist_there(dist: Path) -> str:
    """Where a container puts its bundles: a relative folder into the home, which a volume keeps."""
    return str(dist if dist.is_absolute() else HOME / dist)


def job_there(kind: str, image: str | None) -> dict[str, JsonValue]:
    """The job variables of the pool's type; in `docker` the home is the volume `tapeout`."""
    env: dict[str, JsonValue] = {"PREFECT_HOME": str(HOME / "prefect")}  # else the worker's own, which is not there
    if (tracking := os.environ.get("MLFLOW_TRACKING_URI", "")).startswith(("http://", "https://")):
        env["MLFLOW_TRACKING_URI"] = tracking
    volumes: dict[str, JsonValue] = {"volumes": [f"tapeout:{HOME}"]} if kind == "docker" else {}
    return {"image": image or IMAGE, "command": COMMAND, "env": env, **volumes}
