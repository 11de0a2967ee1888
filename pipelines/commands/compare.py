"""`tapeout compare`: several configs, one table."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compare")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of every config.")
@click.option(
    "--dist", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Bundles go here."
)
@click.option("--json", "as_json", is_flag=True, help="End with a JSON list of reports on standard output.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--no-mlflow", is_flag=True, help="Track nothing.")
@click.option("--no-prefect", is_flag=True, help="Run without flows.")
def command(
    configs: tuple[Path, ...],
    overrides: tuple[str, ...],
    dist: Path,
    as_json: bool,
    quiet: bool,
    no_mlflow: bool,
    no_prefect: bool,
) -> None:
    """Run CONFIGS over the same model and data, one after the other, and show them side by side.

    A config over its budget is shown as that; the exit code is the first config's that did not pass, 0 when all did.
    """
    from rich.console import Console

    from pipelines.comparing_runs import compare_runs, track
    from pipelines.errors import Interrupted
    from pipelines.home import home
    from pipelines.launch import Choices
    from pipelines.reporting.comparison_table import comparison_table
    from pipelines.stack.running import adopt

    adopt(home())
    outcomes = compare_runs(configs, overrides, Choices(dist, quiet or as_json, not no_prefect), not no_mlflow)
    if as_json:
        click.echo("[" + ",\n".join(outcome.record.model_dump_json() for outcome in outcomes) + "]")
    else:
        Console().print(comparison_table([outcome.record for outcome in outcomes]))
    if not (no_mlflow or isinstance(outcomes[-1].error, Interrupted)):
        Console(stderr=True).print(track(outcomes), highlight=False, soft_wrap=True)
    for outcome in outcomes:
        if outcome.error is not None:
            outcome.error.in_record = as_json
            raise outcome.error
