"""`tapeout rollback`: the previous champion again."""

from __future__ import annotations

import click


@click.command("rollback")
@click.argument("name")
def command(name: str) -> None:
    """Let the version of NAME that was champion before be it again; the one that is becomes `previous`."""
    from pipelines.home import home
    from pipelines.stack.running import adopt
    from pipelines.tracking import champions
    from pipelines.tracking.connection import connect, import_mlflow

    adopt(home())
    import_mlflow()
    new, old = champions.rollback(connect(home()).client, home(), name)
    click.echo(f"{name}: version {new} is champion again, version {old} is previous")
