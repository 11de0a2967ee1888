"""`tapeout artifacts`: the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipelines.store import Store


@click.group("artifacts")
def command() -> None:
    """List, show, verify and prune what runs have made."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List every artifact, last used first."""
    from pipelines.quantities import size

    entries = _store().ls()
    if as_json:
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    for entry in entries:
        click.echo(
            f"{entry.digest[:12]}  {size(entry.size_bytes):>8}  {entry.used[:16]}  {entry.kind:<14} {entry.stage}"
        )


@command.command("show")
@click.argument("digest")
def show(digest: str) -> None:
    """Show the artifact or cache key that starts with DIGEST: facts, parents, what its key is made of."""
    store = _store()
    entry = store.find(digest)
    shown = {**entry.model_dump(mode="json"), "path": str(store.artifact(entry).path), "log": str(store.log(entry))}
    click.echo(json.dumps(shown, indent=1))


@command.command("verify")
@click.argument("digest", required=False)
def verify(digest: str | None) -> None:
    """Read every artifact, or the one that starts with DIGEST, and compare it with its digest."""
    from rich.console import Console

    from pipelines.bars import RichProgress
    from pipelines.errors import StoreError

    damages = _store().verify(digest, RichProgress(Console(stderr=True)))
    if damages:
        listed = "\n".join(f"{damage.digest[:12]}: {damage.message}" for damage in damages)
        raise StoreError(f"damaged, moved aside:\n{listed}", "the next run makes them again")
    click.echo("every artifact is whole")


@command.command("prune")
@click.option("--older-than", "days", type=float, default=30, show_default=True, help="Days since the last use.")
@click.option("--max-size", type=float, help="GB to keep at most; the least recently used go first.")
@click.option("--keep", multiple=True, help="Digest or key that stays.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(days: float, max_size: float | None, keep: tuple[str, ...], dry_run: bool) -> None:
    """Remove artifacts that were not used for long, and what nothing refers to."""
    from pipelines.quantities import size

    store = _store()
    kept = {entry.digest for prefix in keep for entry in [store.find(prefix)]}
    pruned = store.prune(days, kept, int(max_size * 1e9) if max_size is not None else None, dry_run)
    for entry in pruned.entries:
        click.echo(f"{entry.digest[:12]}  {entry.kind:<14} {entry.stage}")
    click.echo(f"{size(pruned.bytes_freed)} {'would be freed' if dry_run else 'freed'}")


def _store() -> Store:
    from pipelines.home import home
    from pipelines.store import Store

    return Store(home() / "store")
