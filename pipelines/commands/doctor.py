"""`tapeout doctor`: is this machine fit?"""

from __future__ import annotations

import json

import click

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Look at the compiler, disk, memory, CPU, GPU, registry and every environment, each with the way out."""
    from pipelines.doctor import checks
    from pipelines.environments import Environments
    from pipelines.errors import UserError
    from pipelines.home import home

    found = checks(home(), Environments(home()))
    if as_json:
        click.echo(json.dumps([check.model_dump() for check in found]))
    else:
        for check in found:
            click.echo(f"{click.style(f'{check.ok:<8}', fg=COLOURS[check.ok])} {check.name}: {check.finding}")
            if check.hint and check.ok != "ok":
                click.echo(f"         {check.hint}")
    problems = [check.name for check in found if check.ok == "problem"]
    if problems:
        error = UserError(f"{len(problems)} to mend: {', '.join(problems)}", "the lines above say how")
        error.in_record = as_json
        raise error
