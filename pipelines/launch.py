"""Set a run up: config, plan, store, environments, tracker; then hand it to the flow."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pipelines import plan
from pipelines.bars import RichProgress
from pipelines.config import LoadedConfig
from pipelines.device import device_facts, usable_cores
from pipelines.environments import Environments
from pipelines.errors import UserError
from pipelines.home import home
from pipelines.mlflow_process import WriterProcess, database
from pipelines.origin import source_recipe
from pipelines.outcome import Ending, Outcome, conclude, execute
from pipelines.parsing import parse
from pipelines.pipeline import Pipeline
from pipelines.progress import Progress, Silent
from pipelines.runner import SubprocessRunner
from pipelines.storage.shared import Shared
from pipelines.store import Store
from pipelines.tracking.sending import MlflowTracker
from pipelines.tracking.tracker import NullTracker, Tracker
from pipelines.watching.architecture import check_architecture
from pipelines.watching.attempt import attempt, beginning
from pipelines.watching.landed import Landed
from pipelines.watching.ledger import Ledger
from pipelines.workshop import Fetching, Workshop


@dataclass(frozen=True)
class Choices:
    """What the command line decides."""

    dist: Path
    quiet: bool = False
    prefect: bool = True


@dataclass(frozen=True)
class Found:
    """A checkpoint that a watch found, by the digest of its bytes. `watched` tells the config's name, or nothing; it is
    asked only where the config itself cannot be.
    """

    digest: str
    watched: Callable[[], str]


Around = Callable[[Pipeline, Ending], Outcome]


def launch(
    config: Path,
    overrides: Sequence[str],
    choices: Choices,
    writer: WriterProcess | None,
    around: Around | None = None,
    fetching: Fetching = source_recipe,
) -> Outcome:
    """Run a config to its end; without a writer nothing is tracked. `around` carries it out, and concludes it, as part
    of a flow that is running already.

    Raises:
        ConfigErrors: before anything is started.
    """
    progress: Progress = Silent() if choices.quiet else RichProgress(Console(stderr=True))
    loaded = parse(config, overrides)
    planned = plan.check(loaded)
    folder = run_folder(loaded)
    shop = replace(workshop(loaded, folder, progress, writer), fetching=fetching)
    pipeline, ending = Pipeline(loaded, planned, shop), Ending(folder, choices.dist)
    shop.store.sweep()
    carry_out = around or (_as_flow if choices.prefect else _plainly)
    return carry_out(pipeline, ending)


def launch_checkpoint(
    config: Path,
    overrides: Sequence[str],
    found: Found,
    choices: Choices,
    writer: WriterProcess | None,
    around: Around | None = None,
) -> Outcome | None:
    """Run a config on a checkpoint that the watch found; None if it is decided, or in another run's hands.

    Raises:
        UserError: the config cannot be read, or the watch found no such checkpoint.
    """
    with beginning(found.digest, lambda: Ledger(home(), name) if (name := found.watched()) else None):
        own = parse(config, overrides)
        ledger = Ledger(home(), own.config.name)
        if ledger.get(found.digest) is None:
            raise UserError(f"no checkpoint {found.digest[:12]} was found for {config}", f"tapeout watch {config} --ls")

    def carry_out(its: tuple[str, ...]) -> Outcome:
        whole = (*overrides, *its)
        landed = Landed(parse(config, whole), found.digest)
        with landed.unless_replaced():
            check_architecture(own, landed.loaded)
        return launch(config, whole, choices, writer, around, landed.fetching)

    return attempt(ledger, found.digest, carry_out)


def _plainly(pipeline: Pipeline, ending: Ending) -> Outcome:
    return conclude(execute(pipeline, ending), pipeline, ending)


def _as_flow(pipeline: Pipeline, ending: Ending) -> Outcome:
    if "PREFECT_API_URL" not in os.environ:
        pipeline.workshop.progress.say("Prefect: no PREFECT_API_URL, starting a temporary server (10-20 s)")
    from pipelines import flow

    return flow.run(pipeline, ending)


def workshop(loaded: LoadedConfig, folder: Path, progress: Progress, writer: WriterProcess | None = None) -> Workshop:
    """Everything that a run works with."""
    if writer and "MLFLOW_TRACKING_URI" not in os.environ and not database(home()).exists():
        progress.say("MLflow: setting up its database, once, about 10 s")
    tracker: Tracker = MlflowTracker(home(), writer) if writer else NullTracker()
    return Workshop(
        home=home(),
        store=Store(home() / "store", shared_store(loaded, progress)),
        runner=SubprocessRunner(Environments(home()), progress),
        tracker=tracker,
        progress=progress,
        device=device_facts(),
        logs=folder,
        threads=loaded.config.threads or usable_cores(),
    )


def shared_store(loaded: LoadedConfig, progress: Progress) -> Shared | None:
    """The store that the config shares with other machines.

    Raises:
        UserError: the address is wrong, or what opens it is not installed.
    """
    if loaded.config.store is None:
        return None
    shared = Shared(loaded.config.store, progress.say)
    shared.check()
    return shared


def run_folder(loaded: LoadedConfig) -> Path:
    """A fresh folder for the run's logs, requests and report, named by time."""
    return new_folder(loaded.config.name)


def new_folder(name: str) -> Path:
    """A fresh folder among those of the runs."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = home() / "runs" / f"{stamp}-{name}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder
