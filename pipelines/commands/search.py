"""`tapeout search`: explore a space of configs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import mlflow_process
from pipelines.home import home
from pipelines.stack.running import adopt

if TYPE_CHECKING:
    from pipelines.searching.trials import SearchRecord


@click.command("search")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--space", type=click.Path(path_type=Path), help="YAML of the space, in place of the config's `search:`.")
@click.option("--trials", type=click.IntRange(1), help="Points to make and measure, in place of the section's.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no trial after so long.")
@click.option("--seed", type=click.IntRange(0), help="Of Optuna's draws; a search of its own.")
@click.option("--write", "to", type=click.Path(path_type=Path), help="Write the chosen point's config.")
@click.option("--plot", type=click.Path(path_type=Path), help="Copy the picture of the front here.")
@click.option(
    "--afresh", is_flag=True, help="Forget the trials of earlier sessions; the store still has what they made."
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON record on standard output.")
@click.option("--quiet", is_flag=True, help="No lines of progress.")
@click.option("--no-mlflow", is_flag=True, help="Track nothing.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    space: Path | None,
    trials: int | None,
    minutes: float | None,
    seed: int | None,
    to: Path | None,
    plot: Path | None,
    afresh: bool,
    as_json: bool,
    quiet: bool,
    no_mlflow: bool,
) -> None:
    """Search the space that CONFIG's `search:` declares for what is best within its budgets.

    Ends with the Pareto front and the chosen point's config. The same command goes on where it was interrupted.
    """
    adopt(home())
    with nullcontext() if no_mlflow else mlflow_process.writer() as writer:
        from rich.console import Console

        from pipelines.bars import RichProgress
        from pipelines.progress import Silent
        from pipelines.searching.asking import Asked, space_of
        from pipelines.searching.conducting import conduct

        asked = Asked(space, trials, minutes, seed, afresh)
        progress = Silent() if quiet or as_json else RichProgress(Console(stderr=True))
        record = conduct(space_of(config, overrides, asked), asked, progress, writer)
    _leave(record, to, plot)
    _show(record, as_json)
    _raise_unless_found(record, as_json)


def _leave(record: SearchRecord, to: Path | None, plot: Path | None) -> None:
    from pipelines.searching.conducting import PLOT
    from pipelines.searching.results import write_config

    if to is not None and record.chosen_config:
        write_config(record.chosen_config, Path(record.config_path), to)
        click.echo(f"wrote {to}", err=True)
    if plot is not None and record.folder is not None and (record.folder / PLOT).is_file():
        plot.write_bytes((record.folder / PLOT).read_bytes())
        click.echo(f"wrote {plot}", err=True)


def _show(record: SearchRecord, as_json: bool) -> None:
    if as_json:
        click.echo(record.model_dump_json(indent=1))
        return
    from pipelines.reporting.output import standard_output
    from pipelines.searching.conducting import CHOSEN
    from pipelines.searching.results import table

    console = standard_output()
    console.print(table(record), highlight=False)
    if record.folder is not None and record.chosen_config:
        console.print(f"config  {record.folder / CHOSEN}", highlight=False, soft_wrap=True)
    if record.mlflow_run:
        console.print(
            f"mlflow  run {record.mlflow_run} in the experiment {record.name}", highlight=False, soft_wrap=True
        )


def _raise_unless_found(record: SearchRecord, as_json: bool) -> None:
    """The exit code: 130 interrupted, 1 nothing within budget, 3 nothing but failures."""
    from pipelines.errors import BudgetExceeded, Interrupted, ToolFailed

    error: Interrupted | BudgetExceeded | ToolFailed
    if record.status == "interrupted":
        error = Interrupted(record.stopped)
    elif record.status == "found":
        return
    elif record.trials and all(trial.verdict == "failed" for trial in record.trials):
        error = ToolFailed(f"every trial failed, the last with: {record.trials[-1].reason}")
    else:
        error = BudgetExceeded(f"no point that was tried is within every budget; {record.stopped}")
    error.in_record = as_json
    raise error
