"""`tapeout up`: the servers and a worker on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipelines.stack.running import Running
    from pipelines.stack.services import Places


@click.command("up")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that Prefect and MLflow listen on.")
@click.option("--prefect-port", type=int, help="By default 4200, or the next free one.")
@click.option("--mlflow-port", type=int, help="By default 5000, or the next free one.")
@click.option(
    "--postgres", metavar="URL", help="Keep both histories in PostgreSQL: databases NAME_prefect, NAME_mlflow."
)
@click.option("--status", is_flag=True, help="Only say whether it is up, and how each part is.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses and the health as JSON.")
def command(
    host: str,
    prefect_port: int | None,
    mlflow_port: int | None,
    postgres: str | None,
    status: bool,
    as_json: bool,
) -> None:
    """Start Prefect, a worker and MLflow; ^C stops them together. `tapeout run` finds them by itself.

    A second `tapeout up` says where the first one is. Exit code 2 with --status: it is not up, or not well.
    """
    from pipelines.errors import UserError
    from pipelines.home import home
    from pipelines.stack.running import running
    from pipelines.stack.supervise import health

    if stack := running(home()):
        return _show(stack, as_json, "already up", health(stack))
    if status:
        raise UserError("nothing is up in this home", "tapeout up")
    places = _places(host, prefect_port, mlflow_port, postgres)
    _run(places, as_json)
    return None


def _run(places: Places, as_json: bool) -> None:
    from pipelines.errors import UserError
    from pipelines.stack.flow_runs import FlowRuns
    from pipelines.stack.services import LOOPBACK
    from pipelines.stack.supervise import AlreadyUp, keep_up, stack

    if places.host not in LOOPBACK:
        _say(f"listening on {places.host}: whoever reaches it can start runs and read results, without a password")
    try:
        with stack(places, _say) as (up, children):
            _show(up, as_json, "up", dict.fromkeys(up.health, True))  # each has just answered
            try:
                keep_up(children, FlowRuns(places.home, up.api, up.pool), _say)
            except KeyboardInterrupt:
                _say("stopping")
    except AlreadyUp:
        raise UserError("another `tapeout up` is starting in this home", "tapeout up --status") from None


def _places(host: str, prefect_port: int | None, mlflow_port: int | None, postgres: str | None) -> Places:
    from pipelines.home import home
    from pipelines.stack.ports import choose
    from pipelines.stack.postgres import databases
    from pipelines.stack.services import Places

    prefect = choose(host, prefect_port, 4200, "--prefect-port", set())
    mlflow = choose(host, mlflow_port, 5000, "--mlflow-port", {prefect})
    worker = choose("127.0.0.1", None, prefect + 1, "--prefect-port", {prefect, mlflow})
    stores = databases(postgres) if postgres else (None, None)
    return Places(home(), host, prefect, worker, mlflow, *stores)


def _show(stack: Running, as_json: bool, what: str, well: dict[str, bool]) -> None:
    from pipelines.errors import UserError

    addresses = {"Prefect": stack.prefect, "MLflow": stack.mlflow, "worker": f"{stack.worker}/health"}
    if as_json:
        found = {name: {"address": url, "well": well[name]} for name, url in addresses.items()}
        click.echo(json.dumps({"status": what, "pid": stack.pid, "pool": stack.pool, **found}))
    else:
        click.echo(f"{what}, process {stack.pid}")
        for name, url in addresses.items():
            click.echo(f"  {name:<8} {url}  {'well' if well[name] else 'does not answer'}")
    if ailing := [name for name, good in well.items() if not good]:
        raise UserError(f"{' and '.join(ailing)} {'does' if len(ailing) == 1 else 'do'} not answer", "see stack/*.log")


def _say(message: str) -> None:
    click.echo(message, err=True)
