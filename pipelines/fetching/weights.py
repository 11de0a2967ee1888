"""What a model is on disk, and whether all of it is there; no toolchain, no pickle."""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pipelines.errors import SourceError

Kind = Literal["gguf", "hf", "onnx", "torch"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
WANTED = "a Hugging Face folder (config.json and *.safetensors), a .gguf file or an .onnx file"
EXTERNAL_DATA = re.compile(rb"\n\x08location\x12([\x01-\x7f])")  # StringStringEntryProto{key="location", value}


def locate(path: Path) -> Path:
    """The model at a path: the path itself, or the one model file of a folder that is no Hugging Face folder.

    Raises:
        SourceError: there is none, or more than one.
    """
    if not path.is_dir() or (path / "config.json").is_file():
        return path
    models = sorted(file for file in path.rglob("*") if file.suffix in (".gguf", ".onnx"))
    if not models:
        raise SourceError(f"{path}: no config.json in it", f"the source must be {WANTED}")
    if len(models) > 1:
        names = ", ".join(str(model.relative_to(path)) for model in models)
        raise SourceError(f"{path}: holds {len(models)} models: {names}", "name one of the files")
    return models[0]


def kind_of(model: Path) -> Kind:
    """The artifact kind of a file or Hugging Face folder, "gguf", "onnx" or "hf"; all of its files must be there.

    Raises:
        SourceError: it is none of these, or part of it is missing, empty or truncated.
    """
    if model.is_dir():
        _check_hf(model)
        return "hf"
    if not model.is_file():
        missing = "neither a file nor a folder" if model.exists() else "no such file or folder"
        raise SourceError(f"{model}: {missing}", f"the source must be {WANTED}")
    if model.stat().st_size == 0:
        raise SourceError(f"{model}: the file is empty", "fetch or copy it again")
    return _kind_of_file(model)


def files_of(model: Path) -> dict[str, Path]:
    """The files that make up a model, by their path in an artifact; pickles and hidden files are left out."""
    if not model.is_dir():
        beside = external_data(model) if model.suffix == ".onnx" else []
        return {str(path.relative_to(model.parent)): path for path in (model, *beside)}
    return dict(sorted(_walk(model, model, {model.resolve()})))


def _walk(folder: Path, top: Path, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    """Links are followed, to a folder only once: a link to a folder above would never end."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.resolve() not in seen:
            yield from _walk(path, top, seen | {path.resolve()})
        elif path.is_symlink() and not path.exists():
            raise SourceError(
                f"{path}: a link to {path.readlink()}, which is missing", "fetch or copy the folder again"
            )
        elif path.is_file() and not is_pickle(path):
            yield path.relative_to(top).as_posix(), path


def check_name(file: str) -> None:
    """Refuse a file that is no model by its name, before it is fetched.

    Raises:
        SourceError: it is neither .gguf nor .onnx.
    """
    if is_pickle(PurePosixPath(file)):
        raise _pickle(file)
    if not file.endswith((".gguf", ".onnx")):
        raise SourceError(f"{file}: not a model that Tapeout reads", "name a .gguf or .onnx file")


def is_pickle(path: PurePosixPath | Path) -> bool:
    """Whether loading the file could run code of whoever wrote it."""
    return path.suffix.lower() in PICKLES


def external_data(model: Path) -> list[Path]:
    """The files beside an .onnx file that hold its larger tensors.

    Raises:
        SourceError: one is missing, or lies outside the model's folder.
    """
    files = []
    for name in _external_names(model):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise SourceError(
                f"{model}: keeps tensors in `{name}`, outside its folder", "save it with its data beside it"
            )
        if not (model.parent / name).is_file():
            raise SourceError(
                f"{model}: its tensors are in `{name}`, which is missing", f"put {name} beside {model.name}"
            )
        files.append(model.parent / name)
    return files


def _kind_of_file(model: Path) -> Kind:
    with model.open("rb") as file:
        head = file.read(8)
    if model.suffix == ".gguf":
        if head[:4] != b"GGUF" or len(head) < 8:
            raise SourceError(f"{model}: not a GGUF file: it begins with {head!r}", "fetch or copy it again")
        return "gguf"
    if model.suffix == ".onnx":
        external_data(model)
        return "onnx"
    check_name(str(model))
    raise AssertionError(model)


def _check_hf(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{folder / 'config.json'}: not JSON: {error}", "fetch or copy it again") from error
    if not isinstance(config, dict):
        raise SourceError(f"{folder / 'config.json'}: not a JSON object", "fetch or copy it again")
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        _check_safetensors(path)
    for index in folder.glob("*.safetensors.index.json"):
        _check_shards(index)
    if not weights:
        pickles = [path.name for path in sorted(folder.iterdir()) if is_pickle(path)]
        raise _pickle(f"{folder}: {', '.join(pickles)}") if pickles else _no_weights(folder)


def _check_safetensors(path: Path) -> None:
    """The format: 8 bytes with the length of a JSON header, the header, the tensors at the offsets it gives."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 0 < length <= size - 8:
            raise SourceError(f"{path}: truncated: {size:,} bytes", "fetch or copy it again")
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, IndexError, TypeError) as error:
            raise SourceError(
                f"{path}: its header is not that of a safetensors file", "fetch or copy it again"
            ) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise SourceError(f"{path}: {size:,} bytes, its header says {expected:,}", "fetch or copy it again")


def _check_shards(index: Path) -> None:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(f"{index}: not a safetensors index", "fetch or copy it again") from error
    if missing := sorted(shard for shard in shards if not (index.parent / str(shard)).is_file()):
        raise SourceError(f"{index}: {len(missing)} of {len(shards)} shards missing: {missing[0]}", "fetch them all")


def _external_names(model: Path) -> list[str]:
    """Read off the protobuf's bytes: the pairs under the key "location" (onnx.proto, TensorProto.external_data)."""
    names: set[bytes] = set()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in EXTERNAL_DATA.finditer(content):
            names.add(content[match.end() : match.end() + match[1][0]])
    return sorted(name.decode(errors="replace") for name in names)


def _pickle(what: str) -> SourceError:
    return SourceError(
        f"{what}: only pickled weights, and no pickle is loaded: it can run any code",
        "convert it to safetensors where you trust it: model.save_pretrained(FOLDER, safe_serialization=True)",
    )


def _no_weights(folder: Path) -> SourceError:
    return SourceError(f"{folder}: config.json without *.safetensors", f"the source must be {WANTED}")
