"""`tapeout deploy`: a config that runs by schedule, by event, or from Prefect's page."""

from __future__ import annotations

from pathlib import Path

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.command("deploy")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--cron", help="When, as cron says it: '0 3 * * 1'.")
@click.option("--every", help="How often: 30m, 6h, 1d, 1w.")
@click.option("--pool", default="tapeout", show_default=True, help="Work pool that runs it.")
@click.option(
    "--type", "kind", type=click.Choice(["process", "docker", "kubernetes"]), default="process", show_default=True
)
@click.option(
    "--image", help="Of the docker and kubernetes pools, built by Dockerfile.cpu or .cuda.  [default: tapeout:cpu]"
)
@click.option("--concurrency", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option(
    "--dist", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Bundles go here."
)
def command(
    config: Path,
    overrides: tuple[str, ...],
    cron: str | None,
    every: str | None,
    pool: str,
    kind: str,
    image: str | None,
    concurrency: int,
    dist: Path,
) -> None:
    """Register CONFIG as a deployment on Prefect; with a `trigger:`, what `tapeout watch` finds starts it.

    Deploying again changes the deployment, and resumes a paused one. Its parameters can be edited on Prefect's page.
    """
    from pipelines.home import home
    from pipelines.parsing import parse
    from pipelines.stack.running import adopt

    if cron and every:
        raise click.UsageError("--cron and --every are two ways of saying when: give one")
    seconds = _seconds(every) if every else None
    loaded = parse(config, overrides)
    adopt(home())
    from pipelines.deployments import Order, deploy

    order = Order.model_validate(
        {
            "dist": dist,
            "pool": pool,
            "type": kind,
            "image": image,
            "cron": cron,
            "every_s": seconds,
            "concurrency": concurrency,
            "overrides": overrides,
        }
    )
    name = deploy(loaded, order)
    click.echo(f"{name} is deployed to the work pool {pool}\nrun it now: prefect deployment run {name}")


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.replace(".", "", 1).isdigit() or float(number) == 0:
        raise click.UsageError(f"--every {text}: write 30m, 6h, 1d or 1w")
    return float(number) * UNITS[unit]
