"""`tapeout flow-run`: what a container of a docker or kubernetes work pool is started with."""

from __future__ import annotations

import os
import sys

import click


@click.command("flow-run", hidden=True)
def command() -> None:
    """Carry out the flow run that Prefect's worker names in the environment."""
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        raise click.UsageError("Prefect's worker starts this, and names the run by PREFECT__FLOW_RUN_ID")
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])
