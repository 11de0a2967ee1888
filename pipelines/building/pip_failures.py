"""Says why an environment could not be built, out of what pip, cmake and the compiler printed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.building.tethered import Done

COMPILERS = ("c++", "g++", "clang++")
QUOTED_LINES = 12
INSTALL_COMPILER = "install one (`apt install g++`, `dnf install gcc-c++`, `xcode-select --install`) or set CC and CXX"
NO_COMPILER = (
    r"No CMAKE_C(XX)?_COMPILER could be found"
    r"|CMAKE_C(XX)?_COMPILER[ -](not set|NOTFOUND)"
    r"|CMAKE_C(XX)?_COMPILER:\s+\S+\s+is not a full path"
    r"|Could not find the compiler specified in the environment variable"
    r"|No such file or directory: '(\S*/)?(cc|gcc|g\+\+|c\+\+|clang|clang\+\+)'"
    r"|command '?\S*(cc|gcc|g\+\+|c\+\+|clang)\S*'? failed: No such file"
    r"|unable to execute '?\S*(cc|gcc|g\+\+|c\+\+|clang)"
)
UNREACHABLE = (
    r"after connection broken by|Max retries exceeded|Temporary failure in name resolution|Could not fetch URL"
    r"|ProxyError|ReadTimeoutError|CERTIFICATE_VERIFY_FAILED|ConnectionRefusedError"
)
NOISE = re.compile(r"\s*(WARNING: Location|Looking in |\[end of output\]|note: This error originates|\[notice\])")
NOT_FOUND = r"No matching distribution found for (\S+)"


@dataclass(frozen=True)
class Cause:
    """Why it failed, the lines that show it, and the way out."""

    what: str
    hint: str
    quote: str = ""


def find_compiler() -> str | None:
    """Path of the C++ compiler that a build would take: CXX, else the first of c++, g++ and clang++ on PATH."""
    named = os.environ.get("CXX", "").split()[:1]
    found = (shutil.which(name) for name in named or COMPILERS)
    return next((path for path in found if path), None)


def diagnose(done: Done, home: Path) -> Cause:
    """The cause of a failed step of building the environment."""
    text = "\n".join(done.lines)
    cause = _out_of_space(text, home) or _compiler(text) or _registry(text) or _environment(text) or _crash(done)
    cause = cause or Cause(f"its installation failed (exit status {done.status})", "read the log")
    return Cause(cause.what, cause.hint, _last_lines(done.lines))


def disk_full(home: Path) -> Cause:
    """There is no room left, in Tapeout's home or where pip unpacks."""
    places = {home: _free_gb(home), Path(tempfile.gettempdir()): _free_gb(Path(tempfile.gettempdir()))}
    free = ", ".join(f"{gb:.1f} GB free in {place}" for place, gb in places.items())
    return Cause(
        f"the disk is full ({free})", "make room (`tapeout artifacts prune`), or set TAPEOUT_HOME and TMPDIR elsewhere"
    )


def _free_gb(place: Path) -> float:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


def _out_of_space(text: str, home: Path) -> Cause | None:
    return disk_full(home) if re.search(r"No space left on device|Disk quota exceeded", text) else None


def _compiler(text: str) -> Cause | None:
    package = _building(text)
    if re.search(r"fatal error: Killed signal|signal terminated program cc1plus", text):
        return Cause(f"the compiler ran out of memory while building {package}", "set CMAKE_BUILD_PARALLEL_LEVEL=1")
    if not re.search(NO_COMPILER, text):
        return None
    compiler = find_compiler()
    if compiler is None:
        return Cause(f"{package} is built from source and no C++ compiler was found", INSTALL_COMPILER)
    return Cause(f"{package} is built from source and the compiler {compiler} cannot be used", INSTALL_COMPILER)


def _building(text: str) -> str:
    names = re.findall(
        r"Building wheel for (\S+)|Failed building wheel for (\S+)|Could not build wheels for (\S+)", text
    )
    return next((name.strip(",") for match in reversed(names) for name in match if name), "a package")


def _registry(text: str) -> Cause | None:
    missing = re.search(NOT_FOUND, text)
    if re.search(UNREACHABLE, text) and (missing is None or "(from versions: none)" in text):
        return Cause(
            "the package registry cannot be reached",
            "check the network and pip's settings (`pip config list`, PIP_INDEX_URL, HTTPS_PROXY)",
        )
    if missing:
        what = f"the package registry has no {missing[1]} for this Python and machine"
        return Cause(what, "add a registry that has it (PIP_EXTRA_INDEX_URL), or pin another version in envs/")
    if "PACKAGES DO NOT MATCH THE HASHES" in text:
        return Cause(
            "a package is not the one that was pinned: its sha256 differs", "find out why before you pin it anew"
        )
    return None


def _environment(text: str) -> Cause | None:
    if re.search(r"ensurepip is not available|No module named '?ensurepip", text):
        return Cause(
            "this Python cannot create virtual environments", "install its venv package (`apt install python3-venv`)"
        )
    if re.search(
        r"ResolutionImpossible|conflicting dependencies|has requirement .* but you have|which is not installed", text
    ):
        return Cause("its pins contradict each other", "write the file anew with `make lock`")
    if module := re.search(r"^(?:ModuleNotFoundError|ImportError|OSError|RuntimeError): (.*)", text, re.MULTILINE):
        return Cause(f"it was installed, and an import fails: {module[1]}", "read the log")
    return None


def _crash(done: Done) -> Cause | None:
    if done.status == -4:
        way_out = "remove that wheel from pip's cache (`pip cache remove NAME`)"
        return Cause("an import ends in an illegal instruction: a wheel was compiled for another CPU", way_out)
    if done.status == -9:
        return Cause("a process was killed, most likely for memory", "close other programs or add memory")
    if done.status < 0:
        return Cause(f"a process crashed with signal {-done.status}", "read the log")
    return None


def _last_lines(lines: Sequence[str]) -> str:
    """The end of the output without pip's repeated warnings."""
    telling = [line for line in lines if line.strip() and not NOISE.match(line)]
    return "\n".join(f"  {line}" for line in telling[-QUOTED_LINES:])
