"""Tapeout homes for measurements: empty, but for the tool environments and, on demand, the fetched model."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines import plan
from pipelines.chain import Chain
from pipelines.environments import Environments
from pipelines.home import home
from pipelines.launch import workshop
from pipelines.parsing import parse
from pipelines.progress import Silent
from pipelines.records import RunRecord
from pipelines.storage.work import remove
from pipelines.store import Entry, Store


def new_home(folder: Path) -> Path:
    """A home that shares the tool environments and the fetched data files of the user's own, and has nothing else."""
    folder.mkdir(parents=True)
    for name, shared in (("envs", Environments(home()).folder), ("data", home() / "data")):
        shared.mkdir(exist_ok=True)
        (folder / name).symlink_to(shared, target_is_directory=True)
    return folder


def fetched(config: Path, scratch: Path) -> tuple[Entry, Path]:
    """The config's source in the user's own store, fetched now if it is not there yet; its entry and its folder."""
    loaded = parse(config)
    shop = workshop(loaded, scratch, Silent())
    artifact = Chain.of(loaded, plan.check(loaded), shop).fetch()
    return shop.store.find(artifact.digest), artifact.path


def renew_store(folder: Path, source: tuple[Entry, Path]) -> None:
    """Replace the home's store by one that holds the fetched source alone, under the key that a run will look for."""
    entry, files = source
    remove(folder / "store")
    store = Store(folder / "store")
    with store.work() as work:
        for file in (path for path in files.rglob("*") if path.is_file()):
            target = work.out / file.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        store.publish(
            entry.key,
            work.out,
            kind=entry.kind,
            stage=entry.stage,
            facts=entry.facts,
            seconds=entry.seconds,
            inputs=entry.inputs,
        )


def latest_record(folder: Path) -> RunRecord:
    """What the latest run in that home says of itself."""
    latest = max((folder / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    return RunRecord.model_validate_json(latest.read_text())
