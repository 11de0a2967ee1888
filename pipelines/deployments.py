"""Prefect deployments of configs: made, listed, paused, removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, JsonValue

from pipelines.config import LoadedConfig
from pipelines.errors import UserError
from pipelines.home import home
from pipelines.in_image import COMMAND, config_there, dist_there, job_there
from pipelines.stack.services import POOL, prefect_variables
from pipelines.watching.event import LANDED, resource
from stages.base import Frozen

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import Automation
    from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

TAG, ENGINE = "tapeout", "python -m prefect.engine"


class Order(Frozen):
    """How a config is deployed."""

    dist: Path
    pool: str = POOL
    type: Literal["process", "docker", "kubernetes"] = "process"
    image: str | None = None
    cron: str | None = None
    every_s: float | None = Field(None, gt=0)
    concurrency: int = Field(1, ge=1)
    overrides: tuple[str, ...] = ()


class Deployed(Frozen):
    """A deployment as Prefect knows it."""

    name: str
    config: str
    paused: bool
    schedules: tuple[str, ...]
    problem: str = Field("", description="why it cannot run")


def deploy(loaded: LoadedConfig, order: Order) -> str:
    """Register the config's deployment, and with a `trigger:` the automation that starts it; its name on Prefect."""
    with _client() as client:
        _pool(client, order)
        from prefect.deployments.runner import RunnerDeployment
        from prefect.types.entrypoint import EntrypointType

        from pipelines.deployed import tapeout

        made = RunnerDeployment.from_flow(
            tapeout,
            name=loaded.config.name,
            cron=order.cron,
            interval=timedelta(seconds=order.every_s) if order.every_s else None,
            parameters=_parameters(loaded, order),
            triggers=[_trigger(loaded.config.name)] if loaded.config.trigger else [],
            concurrency_limit=order.concurrency,
            tags=[TAG],
            description=loaded.text.splitlines()[0].lstrip("# "),
            work_pool_name=order.pool,
            job_variables=_job(order),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        made.apply()
        return made.full_name


def listed() -> list[Deployed]:
    """Every deployment that Tapeout made; one whose config is gone says so."""
    with _client() as client:
        return [_shown(found) for found in _all(client)]


def pause(name: str, paused: bool = True) -> None:
    """Let a deployment start nothing, neither by its schedule nor by its event, or let it again.

    Prefect reads `paused` for schedules alone: the automation is paused for itself.

    Raises:
        UserError: there is none of that name.
    """
    with _client() as client:
        found = _named(client, name)
        (client.pause_deployment if paused else client.resume_deployment)(found.id)
        for automation in _automations(client, found):
            (client.pause_automation if paused else client.resume_automation)(automation.id)


def remove(name: str) -> None:
    """Delete a deployment and its automation.

    Raises:
        UserError: there is none of that name.
    """
    with _client() as client:
        found = _named(client, name)
        client.delete_resource_owned_automations(_resource(found))
        client.delete_deployment(found.id)


def _parameters(loaded: LoadedConfig, order: Order) -> dict[str, JsonValue]:
    """Of the flow; paths are those of the place where it runs."""
    here = order.type == "process"
    return {
        "config": str(loaded.path.absolute()) if here else config_there(loaded),
        "overrides": list(order.overrides),
        "dist": str(order.dist.absolute()) if here else dist_there(order.dist),
        "checkpoint": "",
    }


def _job(order: Order) -> dict[str, JsonValue]:
    """What the worker is told besides. A command of our own saves two of three interpreters that import Prefect before
    the flow begins, and keeps the run in the worker's process group, which ends with `tapeout up`.
    """
    return {"command": ENGINE} if order.type == "process" else job_there(order.type, order.image)


def _trigger(name: str) -> DeploymentEventTrigger:
    from prefect.events import DeploymentEventTrigger

    return DeploymentEventTrigger(
        name=_automation(name),
        expect={LANDED},
        match={"prefect.resource.id": resource(name)},
        parameters={"checkpoint": "{{ event.payload.checkpoint }}"},
    )


def _pool(client: SyncPrefectClient, order: Order) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        known = client.read_work_pool(order.pool)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=order.pool, type=order.type))
        except ObjectAlreadyExists:
            known = client.read_work_pool(order.pool)
        else:
            return
    if known.type != order.type:
        raise UserError(
            f"the work pool {order.pool} is of type {known.type}, not {order.type}", "name another by --pool"
        )


def _all(client: SyncPrefectClient) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    return client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))


def _named(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    found = [deployment for deployment in _all(client) if deployment.name == name]
    if not found:
        raise UserError(f"no deployment is called {name}", "tapeout deployments ls")
    return found[0]


def _resource(found: DeploymentResponse) -> str:
    return f"prefect.deployment.{found.id}"


def _automations(client: SyncPrefectClient, found: DeploymentResponse) -> list[Automation]:
    """Those that came with the deployment, by their name: Prefect does not say whose they are, and others that run it
    are the user's own.
    """
    related = client.read_resource_related_automations(_resource(found))
    return [automation for automation in related if automation.name == _automation(found.name)]


def _automation(name: str) -> str:
    return f"tapeout: a new checkpoint for {name}"


def _shown(found: DeploymentResponse) -> Deployed:
    config = str(found.parameters.get("config", ""))
    schedules = (
        getattr(each.schedule, "cron", "") or f"every {getattr(each.schedule, 'interval', '?')}"
        for each in found.schedules
    )
    elsewhere = (found.job_variables or {}).get("command") == COMMAND
    problem = "" if elsewhere or Path(config).is_file() else "its config is gone"
    return Deployed(name=found.name, config=config, paused=found.paused, schedules=tuple(schedules), problem=problem)


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    with _settings():
        import httpx
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True) as client:
                yield client
        except (httpx.ConnectError, httpx.TimeoutException) as error:
            raise UserError(f"Prefect does not answer: {error}", "tapeout up") from None


@contextmanager
def _settings() -> Iterator[None]:
    """The server to speak to.

    Raises:
        UserError: none is known.
    """
    if "PREFECT_API_URL" not in os.environ:
        raise UserError("there is no Prefect server to keep deployments", "tapeout up, or set PREFECT_API_URL")
    os.environ |= prefect_variables(home())
    yield
