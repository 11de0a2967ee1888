"""`tapeout deployments`: what is deployed."""

from __future__ import annotations

import json

import click


@click.group("deployments")
def command() -> None:
    """List, pause, resume and remove deployments."""
    from pipelines.home import home
    from pipelines.stack.running import adopt

    adopt(home())


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List every deployment of a config."""
    from pipelines.deployments import listed

    found = listed()
    if as_json:
        click.echo(json.dumps([deployed.model_dump() for deployed in found]))
        return
    for deployed in found:
        state = deployed.problem or ("paused" if deployed.paused else ", ".join(deployed.schedules) or "on demand")
        click.echo(f"{deployed.name}  {state}  {deployed.config}")


@command.command("pause")
@click.argument("name")
def pause(name: str) -> None:
    """Let NAME start nothing until it is resumed."""
    from pipelines import deployments

    deployments.pause(name)


@command.command("resume")
@click.argument("name")
def resume(name: str) -> None:
    """Let NAME start again."""
    from pipelines import deployments

    deployments.pause(name, paused=False)


@command.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Remove NAME and the automation that starts it; its runs stay."""
    from pipelines import deployments

    deployments.remove(name)
