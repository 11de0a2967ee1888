"""`tapeout validate`: is a config right, and can it be carried out here?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("validate")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check CONFIG and print what a run would do: seconds, nothing is fetched or started."""
    import json

    from pipelines.parsing import parse
    from pipelines.plan import check
    from stages.base import name_of

    planned = check(parse(config, overrides))
    rows = [{"step": 0, "stage": "source", "gives": planned.source_kind, "opened_by": None}]
    for step in planned.steps:
        opener = name_of(step.opener) if step.opener and planned.measured(step) else None
        rows.append({"step": step.number, "stage": step.step.name, "gives": step.gives, "opened_by": opener})
    if as_json:
        click.echo(json.dumps({"config": str(config), "reference": planned.reference, "steps": rows}))
        return
    click.echo(f"{config}: right")
    for row in rows:
        role = "  the reference" if row["step"] == planned.reference else ""
        measured = f"  measured with {row['opened_by']}" if row["opened_by"] else role
        click.echo(f"  {row['step']}  {row['stage']:<20} -> {row['gives']:<10}{measured}")
