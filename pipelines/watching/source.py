"""A checkpoint as the source of a config."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import PipelineConfig
from pipelines.fields.source import PathSource, PythonSource


def overrides_for(config: PipelineConfig, checkpoint: Path, digest: str) -> tuple[str, ...]:
    """What makes the checkpoint the config's source: the weights of a `python:` source, else the whole model.

    A file is named with the sha256 that was seen; a source that is a folder takes none.
    """
    place = f"path: {_quoted(str(checkpoint))}"
    if checkpoint.is_file():
        place += f", sha256: {_quoted(digest)}"
    if isinstance(config.source, PythonSource):
        return (f"source.weights={{{place}}}",)
    licence = f", licence: {_quoted(config.source.licence)}" if config.source.licence else ""
    return (f"source={{{place}{licence}}}",)


def source_of(config: PipelineConfig) -> PathSource | None:
    """What `overrides_for` put there."""
    source = config.source.weights if isinstance(config.source, PythonSource) else config.source
    return source if isinstance(source, PathSource) else None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
