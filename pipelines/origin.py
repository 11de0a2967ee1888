"""The source of a config as an artifact: what its key is made of, and how it is made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import JsonValue

from pipelines.config import LoadedConfig
from pipelines.errors import SourceError
from pipelines.fetching import weights
from pipelines.fields.source import PathSource, PythonSource
from pipelines.making import Recipe
from pipelines.progress import Progress
from pipelines.redaction import redacted
from pipelines.sources import fetch
from pipelines.store import WorkFolder
from stages.base import ROOT, Produced

CODE = (ROOT / "pipelines" / "sources.py", *sorted((ROOT / "pipelines" / "fetching").glob("*.py")))


def source_fields(loaded: LoadedConfig) -> dict[str, JsonValue]:
    """The source's fields as they may be shown and stored: secrets stay `${env:VAR}`."""
    return redacted(loaded.config.source, loaded.text).model_dump(mode="json")


def source_recipe(loaded: LoadedConfig, kind: str, progress: Progress) -> Recipe:
    """How the source becomes an artifact of the kind that the plan counts on."""
    source = loaded.config.source

    def make(work: WorkFolder) -> Produced:
        fetched = fetch(source, work.out, loaded.folder, progress)
        if fetched.kind != kind:
            found = f"the source turned out to be {fetched.kind}, and its name promised {kind}"
            raise SourceError(found, "name the file so that its ending says what it is")
        return Produced(facts=fetched.facts)

    parts: dict[str, JsonValue] = {"source": source_fields(loaded), "code": _code_digest()}
    if isinstance(source, PathSource):
        parts["files"] = _state(loaded.folder / source.path.expanduser())
    if isinstance(source, PythonSource):
        parts["files"] = [_stat(loaded.folder / path) for path in _own_files(source)]
    return Recipe("source", kind, parts, (), make)


def _state(path: Path) -> list[JsonValue]:
    """A path's bytes may have changed since the last run: names, sizes and times of every file that belongs to it."""
    files = weights.files_of(weights.locate(path))
    state: list[JsonValue] = [str(path)]
    for name, file in files.items():
        state.append([name, file.stat().st_size, file.stat().st_mtime_ns])
    return state


def _own_files(source: PythonSource) -> list[Path]:
    weights_file = source.weights.path.expanduser() if isinstance(source.weights, PathSource) else None
    return [path for path in (source.file, weights_file) if path]


def _stat(file: Path) -> JsonValue:
    return [str(file), file.stat().st_size, file.stat().st_mtime_ns]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for file in CODE:
        digest.update(file.read_bytes())
    return digest.hexdigest()
