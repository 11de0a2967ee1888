"""`tapeout verify`: is a bundle what it says, does it pass here, and does it serve?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pydantic import JsonValue

    from pipelines.comparing import Comparison


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--files-only", is_flag=True, help="Measure nothing.")
@click.option("--serve", is_flag=True, help="Also start its server, ask for one completion, and stop it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, files_only: bool, serve: bool, as_json: bool) -> None:
    """Re-hash every file of BUNDLE, then measure it again on this machine and judge it by its own budgets."""
    import json

    from pipelines.verifying import check_bundle

    files = check_bundle(bundle)
    told: dict[str, JsonValue] = {}
    if not as_json:
        click.echo(f"{bundle}: {files} files, all as packaged")
    if serve:
        told["served"] = _served(bundle, as_json)
    if files_only:
        if as_json:
            click.echo(json.dumps(told))
        return
    comparison = _measured(bundle, as_json)
    if as_json:
        click.echo(json.dumps(told | comparison.model_dump(mode="json"), indent=1))
    else:
        for verdict in comparison.verdicts:
            click.echo(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.message}")
    _judge(comparison, as_json)


def _served(bundle: Path, as_json: bool) -> JsonValue:
    from pipelines.home import home
    from pipelines.smoke import served

    log = home() / "logs" / f"serve-{bundle.absolute().name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    found = served(bundle, log)
    if not as_json:
        click.echo(f"serves: {found}")
    dumped: JsonValue = found.model_dump(mode="json")
    return dumped


def _measured(bundle: Path, as_json: bool) -> Comparison:
    from rich.console import Console

    from pipelines.bars import RichProgress
    from pipelines.progress import Silent
    from pipelines.verifying import replay

    return replay(bundle, Silent() if as_json else RichProgress(Console(stderr=True)))


def _judge(comparison: Comparison, as_json: bool) -> None:
    from pipelines.errors import BudgetExceeded

    failed = [verdict.message for verdict in comparison.verdicts if not verdict.passed]
    if failed:
        error = BudgetExceeded("\n".join(failed), "the bundle passed on another machine: see its manifest.json")
        error.in_record = as_json
        raise error
