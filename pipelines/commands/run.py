"""`tapeout run`: carry out a config."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import mlflow_process
from pipelines.home import home
from pipelines.stack.running import adopt

if TYPE_CHECKING:
    from pipelines.outcome import Outcome


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--dist", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Bundles go here."
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON report on standard output.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--no-mlflow", is_flag=True, help="Track nothing.")
@click.option("--no-prefect", is_flag=True, help="Run without a flow.")
@click.option("--checkpoint", metavar="DIGEST", help="Take a checkpoint that `tapeout watch` found as the source.")
@click.option("--watched", default="", hidden=True, help="Whose watch found it: what fails at once counts there.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    dist: Path,
    as_json: bool,
    quiet: bool,
    no_mlflow: bool,
    no_prefect: bool,
    checkpoint: str | None,
    watched: str,
) -> None:
    """Run CONFIG: fetch, run the stages, measure each, halt over budget, bundle what passed.

    KEY=VALUE changes a field for this run: steps.quantize_gguf.type=q8_0, evaluation.perplexity.windows=32.
    """
    adopt(home())
    with nullcontext() if no_mlflow else mlflow_process.writer() as writer:
        from pipelines.launch import Choices, Found, launch, launch_checkpoint

        choices = Choices(dist, quiet or as_json, not no_prefect)
        if checkpoint is None:
            outcome = launch(config, overrides, choices, writer)
        elif (ran := launch_checkpoint(config, overrides, Found(checkpoint, lambda: watched), choices, writer)) is None:
            click.echo(f"checkpoint {checkpoint[:12]} is decided already, or in another run's hands")
            return
        else:
            outcome = ran
    if as_json:
        click.echo(outcome.record.model_dump_json(indent=1))
        if outcome.error is not None:
            outcome.error.in_record = True
    else:
        _show(outcome)
    if outcome.error is not None:
        raise outcome.error


def _show(outcome: Outcome) -> None:
    from pipelines.reporting.output import standard_output
    from pipelines.reporting.table import stage_table, verdict_lines

    console, record = standard_output(), outcome.record
    if any(stage.report for stage in record.stages):
        console.print(stage_table(record))
        console.print(*verdict_lines(record), sep="\n")
    if record.bundle:
        serve = f"\nserve   {record.serve}" if record.serve else ""
        console.print(f"\nbundle  {record.bundle}{serve}", highlight=False, soft_wrap=True)
    if record.promotion:
        console.print(f"{record.promotion.decision:<7} {record.promotion.reason}", highlight=False, soft_wrap=True)
    if record.model_version:
        console.print(f"model   {record.model_version} in the MLflow registry", highlight=False)
