"""Against small libraries that are linked, and copied into a wheel, as llama.cpp's are."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stages._llama_backends import load_backends

GGML = (
    "static int n; void ggml_backend_load_all_from_path(const char *p) { n++; } int ggml_backends(void) { return n; }"
)
LLAMA = "int ggml_backends(void); int llama_backends(void) { return ggml_backends(); }"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)


def compiled(out: Path, code: str, *options: str) -> None:
    out.with_suffix(".c").write_text(code)
    command = ["cc", "-shared", "-fPIC", "-o", out.name, out.with_suffix(".c").name, *options]
    subprocess.run(command, cwd=out.parent, check=True)


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of libraries of a `llama_cpp` that is imported."""
    folder = tmp_path / "lib"
    folder.mkdir()
    soname = f"libggml-{tmp_path.name}.so.0"  # a process loads each only once
    compiled(folder / "libggml.so", GGML, f"-Wl,-soname,{soname}")
    shutil.copyfile(folder / "libggml.so", folder / soname)
    compiled(folder / "libllama.so", LLAMA, "-L.", "-lggml", "-Wl,-rpath,$ORIGIN")
    module = ModuleType("llama_cpp")
    module.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    load_backends.cache_clear()
    return folder


def backends_of_llama(lib: Path) -> int:
    found: int = ctypes.CDLL(str(lib / "libllama.so")).llama_backends()
    return found


def test_llama_sees_what_a_build_with_a_library_for_each_cpu_loads_once(lib: Path) -> None:
    (lib / "libggml-cpu-haswell.so").touch()
    assert backends_of_llama(lib) == 0

    load_backends()
    load_backends()

    assert backends_of_llama(lib) == 1


def test_an_ordinary_build_has_nothing_to_load(lib: Path) -> None:
    (lib / "libggml-cpu.so").touch()

    load_backends()

    assert backends_of_llama(lib) == 0
