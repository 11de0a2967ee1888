"""`tapeout ls`: what there is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

WHAT = ("stages", "targets", "configs", "runs", "metrics", "envs", "artifacts")


@click.command("ls")
@click.argument("what", type=click.Choice(WHAT))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(what: str, as_json: bool) -> None:
    """List stages, targets, configs, runs, metrics, tool environments or artifacts."""
    rows = list(_rows(what))
    if as_json:
        click.echo(json.dumps([{"name": name, "about": about} for name, about in rows]))
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, about in rows:
        click.echo(f"{name:<{width}}  {about}".rstrip())


def _rows(what: str) -> Iterator[tuple[str, str]]:
    if what in {"stages", "targets"}:
        yield from _stages(what)
    elif what == "configs":
        yield from _configs()
    elif what == "runs":
        yield from _runs()
    elif what == "metrics":
        from pipelines.measures import KINDS

        for name, kind in KINDS.items():
            direction = "higher is better" if kind.higher_is_better else "lower is better"
            yield name, f"{kind.unit + ', ' if kind.unit else ''}{direction}"
    elif what == "envs":
        from pipelines.environments import Environments
        from pipelines.home import home

        for facts in Environments(home()).ls():
            yield facts.name, "built" if facts.built else "not built"
    else:
        from pipelines.home import home
        from pipelines.store import Store

        for entry in Store(home() / "store").ls():
            yield entry.digest[:12], f"{entry.kind} by {entry.stage}"


def _stages(family: str) -> Iterator[tuple[str, str]]:
    from stages.base import load, names

    for name, module in sorted(names().items()):
        if module.startswith(family) and name != "dummy":
            stage = load(name)
            takes = "|".join(sorted(stage.consumes))
            about = (stage.__doc__ or "").splitlines()[0]
            yield name, f"{takes} -> {stage.produces}: {about}"


def _configs() -> Iterator[tuple[str, str]]:
    from stages.base import ROOT

    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        yield str(path.relative_to(ROOT)), path.read_text().splitlines()[0].lstrip("# ")


def _runs() -> Iterator[tuple[str, str]]:
    from pipelines.home import home

    for path in sorted((home() / "runs").glob("*/run.json"), reverse=True):
        record = json.loads(path.read_text())
        yield path.parent.name, f"{record['status']}  {record['message'].splitlines()[0] if record['message'] else ''}"
