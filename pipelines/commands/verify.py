"""`tapeout verify`: is a bundle what it says, and does it pass here?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--files-only", is_flag=True, help="Compare the files with the manifest, measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, files_only: bool, as_json: bool) -> None:
    """Re-hash every file of BUNDLE, then measure it again on this machine and judge it by its own budgets."""
    from rich.console import Console

    from pipelines.bars import RichProgress
    from pipelines.errors import BudgetExceeded
    from pipelines.progress import Silent
    from pipelines.verifying import check_bundle, replay

    files = check_bundle(bundle)
    if not as_json:
        click.echo(f"{bundle}: {files} files, all as packaged")
    if files_only:
        return
    comparison = replay(bundle, Silent() if as_json else RichProgress(Console(stderr=True)))
    if as_json:
        click.echo(comparison.model_dump_json(indent=1))
    else:
        for verdict in comparison.verdicts:
            click.echo(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.message}")
    failed = [verdict.message for verdict in comparison.verdicts if not verdict.passed]
    if failed:
        error = BudgetExceeded("\n".join(failed), "the bundle passed on another machine: see its manifest.json")
        error.in_record = as_json
        raise error
