"""`tapeout envs`: the tool environments."""

from __future__ import annotations

import json

import click


@click.group("envs")
def command() -> None:
    """List, build and remove the tool environments."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List every environment: what for, whether it is built, its size."""
    from pipelines.environments import Environments
    from pipelines.home import home
    from pipelines.quantities import size

    found = Environments(home()).ls()
    if as_json:
        click.echo(json.dumps([facts.model_dump(mode="json") for facts in found]))
        return
    for facts in found:
        state = "built" if facts.healthy else "damaged" if facts.built else "not built"
        state += "" if facts.current else ", outdated"
        room = size(facts.size_bytes) if facts.built else ""
        click.echo(f"{facts.name:<10} {state:<18} {room:>8}  {facts.purpose}")


@command.command("build")
@click.argument("names", nargs=-1, required=True)
def build(names: tuple[str, ...]) -> None:
    """Build NAMES now instead of on first use."""
    from rich.console import Console

    from pipelines.bars import RichProgress
    from pipelines.environments import Environments
    from pipelines.home import home

    for name in names:
        facts = Environments(home()).build(name, RichProgress(Console(stderr=True)))
        click.echo(f"{name}: {facts.path}")


@command.command("rm")
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...]) -> None:
    """Remove NAMES; a run that needs one builds it again."""
    from pipelines.environments import Environments
    from pipelines.home import home
    from pipelines.quantities import size

    for name in names:
        click.echo(f"{name}: {size(Environments(home()).remove(name))} freed")


@command.command("check")
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Check NAMES, or every built environment: its imports, and its versions against the pins."""
    from pipelines.doctor import environment
    from pipelines.environments import Environments
    from pipelines.errors import UserError
    from pipelines.home import home

    environments = Environments(home())
    listed = {facts.name: facts for facts in environments.ls() if facts.current}
    wanted = names or tuple(name for name, facts in listed.items() if facts.built)
    for name in wanted:
        environments.path(name)  # an unknown name is told with the nearest known one
    found = [environment(environments, listed[name]) for name in wanted]
    for each in found:
        click.echo(f"{each.ok:<8} {each.name}: {each.finding}")
    if broken := [each for each in found if each.ok == "problem"]:
        raise UserError(f"{len(broken)} to mend: {', '.join(each.name for each in broken)}", broken[0].hint)


@command.command("python")
@click.argument("name")
def python(name: str) -> None:
    """Print the path of NAME's Python, building the environment if need be."""
    from rich.console import Console

    from pipelines.bars import RichProgress
    from pipelines.environments import Environments
    from pipelines.home import home

    click.echo(Environments(home()).python(name, RichProgress(Console(stderr=True))))
