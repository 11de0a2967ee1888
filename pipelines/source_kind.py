"""The artifact kind that a source will have, known before anything is fetched."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.errors import SourceError
from pipelines.fetching.weights import locate
from pipelines.fields.source import HfSource, PackageFolder, PackageSource, PathSource, PythonSource, Source, UrlSource

KIND_OF_SUFFIX = {".gguf": "gguf", ".onnx": "onnx", ".dummy": "dummy"}


def kind_of_source(source: Source, folder: Path) -> str:
    """The kind by the name of the model's file; `folder` is the config's, where relative paths start."""
    if isinstance(source, PythonSource):
        return "torch"
    return KIND_OF_SUFFIX.get(Path(_model_of(source, folder)).suffix, "hf")


def _model_of(source: PackageSource | PackageFolder | UrlSource | HfSource | PathSource, folder: Path) -> str | Path:
    match source:
        case PackageSource():
            return source.file
        case PackageFolder():
            return ""
        case UrlSource():
            return urlsplit(source.url).path
        case HfSource():
            return source.files[0] if len(source.files) == 1 else ""
        case PathSource():
            with suppress(SourceError):  # the fetch says what is wrong with it
                return locate(folder / source.path.expanduser())
            return ""
