"""Makes tiny real packages: wheels that pip installs without a registry, sdists that need a compiler."""

import io
import tarfile
import zipfile
from pathlib import Path

SETUPTOOLS = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "needs-compiler"
version = "1.0"
[tool.setuptools]
ext-modules = [{ name = "needs_compiler", sources = ["needs_compiler.c"] }]
"""
SCIKIT_BUILD = """[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
[project]
name = "needs-compiler"
version = "1.0"
"""
CMAKE = "cmake_minimum_required(VERSION 3.15)\nproject(needs LANGUAGES C CXX)\n"


def wheel(folder: Path, name: str, version: str = "1.0", code: str = "", requires: tuple[str, ...] = ()) -> Path:
    """A wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


def sdist(folder: Path, pyproject: str) -> Path:
    """An sdist with a C source, built by what `pyproject` says."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "needs_compiler-1.0.tar.gz"
    files = {
        "pyproject.toml": pyproject,
        "PKG-INFO": "Metadata-Version: 2.1\nName: needs-compiler\nVersion: 1.0\n",
        "needs_compiler.c": "int answer;\n",
        "CMakeLists.txt": CMAKE,
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(f"needs_compiler-1.0/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path
