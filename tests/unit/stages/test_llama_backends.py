from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stages._llama_backends import load_backends


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    asked: list[bytes] = []

    class Library:
        def __init__(self, path: str) -> None:
            assert path == str(tmp_path / "lib" / "libggml.so")
            self.ggml_backend_load_all_from_path = asked.append

    module = ModuleType("llama_cpp")
    module.__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "lib").mkdir()
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    load_backends.cache_clear()
    return asked


def test_a_build_with_a_library_for_each_cpu_is_told_where_they_are_once(loaded: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "lib" / "libggml-cpu-haswell.so").touch()

    load_backends()
    load_backends()

    assert loaded == [str(tmp_path / "lib").encode()]


def test_an_ordinary_build_has_nothing_to_load(loaded: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "lib" / "libggml-cpu.so").touch()

    load_backends()

    assert loaded == []
