"""`tapeout watch`: a run for every new checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipelines.config import LoadedConfig
    from pipelines.watching.ledger import Checkpoint
    from pipelines.watching.watcher import Watcher


@click.command("watch")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Look until everything that is there is decided, then end.")
@click.option("--ls", "listing", is_flag=True, help="Only list the checkpoints seen, and what became of them.")
@click.option("--retry", metavar="DIGEST", help="Only let a checkpoint that was halted or set aside be tried again.")
@click.option(
    "--dist", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Bundles go here."
)
def command(config: Path, once: bool, listing: bool, retry: str | None, dist: Path) -> None:
    """Watch the `trigger` of CONFIG. With `tapeout up` and `tapeout deploy CONFIG`, each new checkpoint is an event on
    Prefect that starts the deployment; without, it is run here.
    """
    from pipelines.home import home
    from pipelines.parsing import parse
    from pipelines.stack.running import adopt
    from pipelines.watching.ledger import Ledger

    loaded = parse(config)
    if listing:
        for seen in Ledger(home(), loaded.config.name).all():
            click.echo(f"{seen.number:>4}  {seen.digest[:12]}  {seen.state:<9}  {seen.name}  {seen.reason}".rstrip())
        return
    if retry is not None:
        known = Ledger(home(), loaded.config.name).reopen(retry)
        click.echo(f"{known.name}: open again; `tapeout watch {config}` starts it")
        return
    adopt(home())
    _watch(loaded, once, _watcher(loaded, dist))


def _watch(loaded: LoadedConfig, once: bool, watcher: Watcher) -> None:
    from pipelines.errors import UserError
    from pipelines.home import try_lock
    from pipelines.watching.waking import wake_ups

    with try_lock(watcher.ledger.folder / "watcher.lock") as free:
        if not free:
            raise UserError(f"{loaded.config.name} is being watched already", "`tapeout watch --ls` shows what it sees")
        for looks, _ in enumerate(wake_ups(loaded)):
            watcher.step()
            if once and looks and not any(checkpoint.open for checkpoint in watcher.ledger.all()):
                return


def _watcher(loaded: LoadedConfig, dist: Path) -> Watcher:
    """Of events where there is a Prefect server, else of runs here."""
    from pipelines.home import home
    from pipelines.watching.event import emit, waits
    from pipelines.watching.watcher import Watcher

    api, name = os.environ.get("PREFECT_API_URL"), loaded.config.name
    if api is None:
        return Watcher(loaded, home(), _child(loaded, dist), _say)
    return Watcher(loaded, home(), lambda found: emit(api, name, found), _say, lambda found: waits(api, name, found))


def _child(loaded: LoadedConfig, dist: Path) -> Callable[[Checkpoint], str]:
    """Run it here and wait for its end: what comes of it is in the ledger."""

    def start(checkpoint: Checkpoint) -> str:
        command = [sys.executable, "-m", "pipelines.cli", "run", str(loaded.path), "--checkpoint", checkpoint.digest]
        subprocess.run([*command, "--watched", loaded.config.name, "--dist", str(dist)], check=False)
        return ""

    return start


def _say(message: str) -> None:
    click.echo(message, err=True)
