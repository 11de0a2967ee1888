"""Files that a config names are looked for before a run, and a source's kind is known by its file's name."""

from pathlib import Path

import pytest

from configs import Folder, changed
from pipelines.fields.source import HfSource, PackageSource, PathSource, UrlSource
from pipelines.source_kind import kind_of_source

SHA = "0" * 64


def test_files_that_are_not_there_are_told_with_where_paths_start(folder: Folder) -> None:
    text = changed(("model.gguf", "nope.gguf"), ("{builtin: python-docs, split: evaluation}", "{path: text.txt}"))

    assert folder.mistakes(text) == [
        f"a.yaml: `source`: `path`: no such file or folder: nope.gguf\n\nhint: relative paths start at {folder.path}",
        f"a.yaml: `data` `evaluation`: `path`: no such file: text.txt\n\nhint: relative paths start at {folder.path}",
    ]


def test_path_may_begin_at_the_users_home(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.path))
    folder.config = folder.path / "elsewhere" / "a.yaml"
    folder.config.parent.mkdir()

    assert folder.plan(changed(("model.gguf", "~/model.gguf"))).source_kind == "gguf"


def test_kind_of_a_source_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.gguf").write_text("")

    assert kind_of_source(PackageSource(package="a==1", file="b/c.gguf", sha256=SHA), tmp_path) == "gguf"
    assert kind_of_source(PathSource(path=Path("hf")), tmp_path) == "hf"
    assert kind_of_source(PathSource(path=Path("one")), tmp_path) == "gguf"
    assert kind_of_source(PathSource(path=Path("a.onnx")), tmp_path) == "onnx"
    assert kind_of_source(HfSource(hf="a/b", revision="c"), tmp_path) == "hf"
    assert kind_of_source(HfSource(hf="a/b", revision="c", files=("*Q8_0.gguf",)), tmp_path) == "gguf"
    assert kind_of_source(UrlSource(url="https://host/a.gguf?download=true", sha256=SHA), tmp_path) == "gguf"
    assert kind_of_source(UrlSource(url="https://host/folder.zip", sha256=SHA), tmp_path) == "hf"
