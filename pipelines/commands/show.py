"""`tapeout show`: one stage, one metric table of a run, one bundle."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, as_json: bool) -> None:
    """Show NAME: a stage or target with its fields, a run (`last` is the latest), or a bundle's folder."""
    from stages.base import names

    if name in names():
        _stage(name, as_json)
    elif (Path(name) / "manifest.json").is_file():
        click.echo((Path(name) / ("manifest.json" if as_json else "report.md")).read_text())
    else:
        _run(name, as_json)


def _stage(name: str, as_json: bool) -> None:
    import json

    from stages.base import load

    stage = load(name)
    if as_json:
        click.echo(json.dumps(stage.model_json_schema(), indent=1))
        return
    click.echo(f"{name}: {' or '.join(sorted(stage.consumes))} -> {stage.produces}   (environment {stage.env})\n")
    click.echo(f"{stage.__doc__}\n")
    for field, info in stage.model_fields.items():
        default = "required" if info.is_required() else f"default {info.get_default()!r}"
        click.echo(f"  {field}: {info.description or ''} ({default})")


def _run(name: str, as_json: bool) -> None:
    from pipelines.errors import UserError
    from pipelines.home import home
    from pipelines.records import RunRecord
    from pipelines.reporting.output import standard_output
    from pipelines.reporting.table import stage_table, verdict_lines

    found = sorted((home() / "runs").glob("*/run.json" if name == "last" else f"*{name}*/run.json"))
    if not found:
        raise UserError(f"nothing is called {name!r}", "tapeout ls stages, targets or runs lists names")
    text = found[-1].read_text(encoding="utf-8")
    if as_json:
        click.echo(text)
        return
    record, console = RunRecord.model_validate_json(text), standard_output()
    console.print(stage_table(record))
    console.print(*verdict_lines(record), sep="\n")
    console.print(f"\n{record.status}  {record.message}\nfolder  {found[-1].parent}", highlight=False, soft_wrap=True)
