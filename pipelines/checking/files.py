"""Is every file there that the config names?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.config import LoadedConfig, PipelineConfig
from pipelines.fields.data import DataSource, HeldOut, PathData
from pipelines.fields.source import PathSource, PythonSource, Source
from pipelines.mistakes import Found


def missing(loaded: LoadedConfig) -> Found:
    """Every file of the source and of the data that is not there."""
    source, folder = loaded.config.source, loaded.folder
    hint = f"relative paths start at {folder.absolute()}"
    yield from missing_source(source, folder, hint)
    if isinstance(source, PythonSource):
        yield from _missing_python(source, folder, hint)
    for name, data in _texts(loaded.config):
        if isinstance(data, PathData) and not _at(folder, data.path).exists():
            yield name, f"`path`: no such file: {data.path}", hint


def missing_source(source: Source, folder: Path, hint: str = "") -> Found:
    """The file or folder of a model, if it is not there; `folder` is the config's."""
    if isinstance(source, PathSource) and not _at(folder, source.path).exists():
        yield "`source`", f"`path`: no such file or folder: {source.path}", hint


def _missing_python(source: PythonSource, folder: Path, hint: str) -> Found:
    weights = source.weights
    if source.file and not (folder / source.file).is_file():
        yield "`source`", f"`python`: no such file: {source.file}", hint
    if isinstance(weights, PathSource) and not _at(folder, weights.path).is_file():
        yield "`source` `weights`", f"`path`: no such file: {weights.path}", hint


def _texts(config: PipelineConfig) -> Iterator[tuple[str, DataSource | HeldOut]]:
    yield "`data` `evaluation`", config.data.evaluation
    if config.data.calibration is not None:
        yield "`data` `calibration`", config.data.calibration
    if config.data.training is not None:
        yield "`data` `training`", config.data.training
    for name, task in config.evaluation.tasks.items():
        yield f"`evaluation` `tasks` `{name}`", task.data


def _at(folder: Path, path: Path) -> Path:
    return folder / path.expanduser()
