"""`tapeout compare`: several configs, one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipelines.fanout.workers import RunnerName


@click.command("compare")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of every config.")
@click.option(
    "--dist", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Bundles go here."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Configs at once. By default 2, and 1 where speed or latency is measured: side by side the configs would "
    "disturb each other's measurements.",
)
@click.option(
    "--task-runner",
    "runner",
    type=click.Choice(["threads", "dask", "ray"]),
    default="threads",
    show_default=True,
    envvar="TAPEOUT_TASK_RUNNER",
    show_envvar=True,
    help="Prefect's, on this machine, which starts a process for each config. Dask and Ray are installed by "
    "`make setup EXTRAS=dask` or `EXTRAS=ray`.",
)
@click.option("--json", "as_json", is_flag=True, help="End with a JSON list of reports on standard output.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--no-mlflow", is_flag=True, help="Track nothing.")
@click.option("--no-prefect", is_flag=True, help="Run without flows.")
def command(
    configs: tuple[Path, ...],
    overrides: tuple[str, ...],
    dist: Path,
    workers: int | None,
    runner: RunnerName,
    as_json: bool,
    quiet: bool,
    no_mlflow: bool,
    no_prefect: bool,
) -> None:
    """Run CONFIGS over the same model and data, and show them side by side.

    A config over its budget is shown as that; the exit code is the first config's that did not pass, 0 when all did.
    """
    from rich.console import Console

    from pipelines.comparing_runs import compare_runs, track
    from pipelines.errors import Interrupted
    from pipelines.home import home
    from pipelines.launch import Choices
    from pipelines.reporting.comparison_table import comparison_table, notes
    from pipelines.reporting.output import standard_output
    from pipelines.stack.running import adopt

    adopt(home())
    choices = Choices(dist, quiet or as_json, not no_prefect)
    outcomes = compare_runs(configs, overrides, choices, not no_mlflow, workers, runner)
    if as_json:
        click.echo("[" + ",\n".join(outcome.record.model_dump_json() for outcome in outcomes) + "]")
    else:
        records = [outcome.record for outcome in outcomes]
        standard_output().print(comparison_table(records), *notes(records), sep="\n")
    if not (no_mlflow or any(isinstance(outcome.error, Interrupted) for outcome in outcomes)):
        Console(stderr=True).print(track(outcomes), highlight=False, soft_wrap=True)
    for outcome in outcomes:
        if outcome.error is not None:
            outcome.error.in_record = as_json
            raise outcome.error
