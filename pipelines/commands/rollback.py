"""`tapeout rollback`: the previous champion again."""

from __future__ import annotations

import click


@click.command("rollback")
@click.argument("name")
def command(name: str) -> None:
    """Let the version of NAME that was champion before be it again; the one that is becomes `previous`."""
    from pipelines import mlflow_registry
    from pipelines.home import home
    from pipelines.mlflow_writer import connect, import_mlflow
    from pipelines.stack.running import adopt

    adopt(home())
    import_mlflow()
    client, _ = connect(home())
    new, old = mlflow_registry.rollback(client, home(), name)
    click.echo(f"{name}: version {new} is champion again, version {old} is previous")
