"""Cached or made: look the key up, else make the folder under the key's lock and publish it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipelines.progress import Progress
from pipelines.store import Entry, Store, WorkFolder, key_of
from pipelines.working_time import worked_s
from stages.base import Artifact, Produced


@dataclass(frozen=True)
class Recipe:
    """What makes an artifact, and everything its key is made of."""

    stage: str
    kind: str
    parts: dict[str, JsonValue]
    parents: tuple[str, ...]
    make: Callable[[WorkFolder], Produced]
    log: Path | None = None
    tool_versions: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Made:
    """An artifact, its entry, and whether it was in the store already."""

    entry: Entry
    artifact: Artifact
    cached: bool


def obtain(store: Store, recipe: Recipe, progress: Progress) -> Made:
    """The recipe's artifact from the store or the shared one, or made and published now.

    A failure publishes nothing.
    """
    key = key_of({"stage": recipe.stage, "kind": recipe.kind, **recipe.parts})
    entry = store.get(key)
    if entry is None:
        with store.lock(key, lambda: progress.say(f"{recipe.stage}: waiting for another run that is making it")):
            entry = store.get(key) or store.receive(key)
            if entry is None:
                return _make(store, key, recipe)
    return Made(entry, store.artifact(entry), cached=True)


def _make(store: Store, key: str, recipe: Recipe) -> Made:
    begin = worked_s()
    with store.work(key) as work:
        produced = recipe.make(work)
        entry = store.publish(
            key,
            work.out,
            kind=recipe.kind,
            stage=recipe.stage,
            parents=recipe.parents,
            facts=produced.facts,
            notes=produced.notes,
            tables=produced.tables,
            seconds=worked_s() - begin,
            inputs=recipe.parts,
            tool_versions=recipe.tool_versions,
            log=recipe.log if recipe.log and recipe.log.exists() else None,
        )
    return Made(entry, store.artifact(entry), cached=False)
