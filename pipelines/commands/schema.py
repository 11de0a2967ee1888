"""`tapeout schema`: the JSON schema of a config or of the JSON report."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("schema")
@click.argument("what", type=click.Choice(["config", "report"]), default="config")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead of standard output.")
def command(what: str, output: Path | None) -> None:
    """Print the JSON schema of a config (an editor completes with it), or of `tapeout run --json`'s report."""
    import json

    from pipelines.errors import UserError
    from pipelines.schema import config_schema, report_schema

    text = json.dumps(config_schema() if what == "config" else report_schema(), indent=1)
    if output is None:
        click.echo(text)
    else:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{output}: cannot be written: {error.strerror}", "name a file in a folder that is there"
            ) from None
        click.echo(
            f"{output}: written; `# yaml-language-server: $schema={output}` on top of a config uses it", err=True
        )
