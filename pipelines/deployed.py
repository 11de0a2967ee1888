"""The flow that a Prefect deployment runs: a config, or a config for one checkpoint. Imported by Prefect's worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from pipelines.flow import inside_flow, state_of
from pipelines.home import home
from pipelines.mlflow_process import writer
from pipelines.outcome import Outcome
from pipelines.stack.running import adopt
from pipelines.stack.taken import ends_as, let_go, take

HERE = Path(__file__).resolve().parent.parent


def named() -> str:
    """What Prefect's pages call the run: the config, and the checkpoint if there is one."""
    given = flow_run.parameters
    return " ".join(filter(None, [Path(given["config"]).stem, given.get("checkpoint", "")[:12]]))


def told(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001
    """Prefect knows how the flow run ended."""
    let_go(home(), str(flow_run.id))


@flow(name="tapeout", flow_run_name=named, persist_result=False, on_completion=[told], on_failure=[told])
def tapeout(config: str, overrides: list[str], dist: str, checkpoint: str = "") -> Any:
    """Run a config to its end.

    Args:
        config: path of the YAML file on the worker's machine.
        overrides: KEY=VALUE each, as on the command line.
        dist: folder that takes the bundle.
        checkpoint: digest of a checkpoint that `tapeout watch` found; empty for the config's own source.
    """
    adopt(home())
    os.chdir(HERE)
    here, run = home(), str(flow_run.id)
    take(here, run)  # to the end of this process: Prefect is told of the state after this function
    return ends_as(here, run, _carried_out(config, overrides, dist, checkpoint))


def _carried_out(config: str, overrides: list[str], dist: str, checkpoint: str) -> Any:
    """The state in which it ends."""
    from pipelines.errors import TapeoutError
    from pipelines.launch import Choices, Found, launch, launch_checkpoint

    choices = Choices(Path(dist), quiet=True)
    ran: Outcome | None
    try:
        with writer() as tracking:
            if checkpoint:
                found = Found(checkpoint, lambda: str(deployment.name or ""))
                ran = launch_checkpoint(Path(config), overrides, found, choices, tracking, inside_flow)
            else:
                ran = launch(Path(config), overrides, choices, tracking, inside_flow)
    except TapeoutError as error:
        return Failed(message=str(error))
    if ran is None:
        return Completed(message=f"checkpoint {checkpoint[:12]} is decided already, or in another run's hands")
    return state_of(ran)
