"""Looks at the machine as a run would meet it, and says the way out of everything that is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipelines.building.pip_failures import INSTALL_COMPILER, find_compiler
from pipelines.device import device_facts
from pipelines.environments import EnvironmentFacts, Environments
from stages.base import Frozen

PROBE = "six==1.17.0"
REGISTRY_LIMIT_S, SERVER_LIMIT_S, COMPILER_LIMIT_S = 30, 5, 60
LEAST_DISK_GB, ENOUGH_DISK_GB = 5, 15
LEAST_MEMORY_GB, ENOUGH_MEMORY_GB = 3, 8
FAST_KERNELS = {"avx2", "neon", "asimd"}


class Check(Frozen):
    """One thing that was looked at. `hint` is the way out of a warning or a problem."""

    name: str
    ok: Literal["ok", "warning", "problem"]
    finding: str
    hint: str = ""


def checks(home: Path, environments: Environments) -> list[Check]:
    """Every check; about ten seconds, most of them for the environments' imports."""
    found = environments.ls()
    some_built = any(facts.built and facts.current for facts in found)
    wanting = [facts.name for facts in found if not facts.built and environments.lock_file(facts.name).needs_compiler]
    machine = [compiler(wanting, some_built=some_built), disk(home), memory(), processor(), gpu(), registry()]
    return [*machine, *(environment(environments, facts) for facts in found), *servers()]


def compiler(wanting: Sequence[str], *, some_built: bool) -> Check:
    """Compile a line of C++. `wanting`: the environments that a compiler is yet to build."""
    path = find_compiler()
    if path is None:
        return _no_compiler(wanting, some_built=some_built)
    with tempfile.TemporaryDirectory(prefix="tapeout-doctor-") as scratch:
        source = Path(scratch, "check.cpp")
        source.write_text("#include <vector>\nint main() { return std::vector<int>(1)[0]; }\n", encoding="utf-8")
        done = _run([path, str(source), "-o", str(source.with_suffix(""))], COMPILER_LIMIT_S)
    if done is None or done.returncode:
        why = _last_line(done.stderr) if done else f"no answer in {COMPILER_LIMIT_S} s"
        return Check(name="compiler", ok="problem", finding=f"{path} does not compile: {why}", hint=INSTALL_COMPILER)
    return Check(name="compiler", ok="ok", finding=path)


def _no_compiler(wanting: Sequence[str], *, some_built: bool) -> Check:
    """An image has none, and the environments that were chosen for it: less than a problem."""
    if not wanting:
        return Check(name="compiler", ok="ok", finding="none found, and everything that is compiled is built")
    finding = f"no C++ compiler found; {' and '.join(wanting)} cannot be built"
    return Check(name="compiler", ok="warning" if some_built else "problem", finding=finding, hint=INSTALL_COMPILER)


def disk(home: Path) -> Check:
    """Room for environments and artifacts."""
    place = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(place, os.W_OK):
        return Check(name="disk", ok="problem", finding=f"{place} cannot be written", hint="set TAPEOUT_HOME elsewhere")
    free = shutil.disk_usage(place).free / 1e9
    hint = f"{ENOUGH_DISK_GB} GB are comfortable: `tapeout artifacts prune`, or set TAPEOUT_HOME elsewhere"
    return _graded("disk", free, LEAST_DISK_GB, ENOUGH_DISK_GB, f"{free:.1f} GB free in {home}", hint)


def memory() -> Check:
    """Room for two copies of a model at full precision."""
    size = device_facts().memory_gb
    hint = f"{ENOUGH_MEMORY_GB} GB are comfortable for small models: add memory, or raise the container's limit"
    return _graded("memory", size, LEAST_MEMORY_GB, ENOUGH_MEMORY_GB, f"{size:.1f} GB", hint)


def processor() -> Check:
    """Whether the kernels of the runtimes have their instruction sets."""
    device = device_facts()
    finding = (
        f"{device.cpu}, {device.cores} usable cores, {' '.join(device.features) or 'no vector instructions known'}"
    )
    if FAST_KERNELS.isdisjoint(device.features):
        return Check(
            name="cpu", ok="warning", finding=finding, hint="without AVX2 or NEON the runtimes are many times slower"
        )
    return Check(name="cpu", ok="ok", finding=finding)


def gpu() -> Check:
    """NVIDIA GPUs. None is fine: everything that is here runs on the CPU."""
    return Check(name="gpu", ok="ok", finding=", ".join(device_facts().gpus) or "none (everything runs on the CPU)")


def registry() -> Check:
    """Fetch a tiny package with pip's own settings."""
    with tempfile.TemporaryDirectory(prefix="tapeout-doctor-") as scratch:
        pip = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"]
        done = _run([*pip, "--quiet", "--retries=0", "--timeout=10", "-d", scratch, PROBE], REGISTRY_LIMIT_S)
    if done is not None and done.returncode == 0:
        return Check(name="registry", ok="ok", finding=f"pip can fetch {PROBE}")
    why = _last_line(done.stderr) if done else f"no answer in {REGISTRY_LIMIT_S} s"
    hint = "check the network and pip's settings (`pip config list`, PIP_INDEX_URL, HTTPS_PROXY)"
    return Check(name="registry", ok="problem", finding=f"pip cannot fetch {PROBE}: {why}", hint=hint)


def environment(environments: Environments, facts: EnvironmentFacts) -> Check:
    """Import what the environment is for."""
    name = f"environment {facts.name}"
    size = f"{facts.size_bytes / 1e9:.1f} GB in {facts.path}"
    if not facts.current:
        hint = "another checkout may use it; `tapeout envs rm` removes all of that name"
        return Check(name=name, ok="ok", finding=f"of an older pinned file, {size}", hint=hint)
    if not facts.built:
        return Check(
            name=name,
            ok="ok",
            finding="not built yet",
            hint=f"the first run builds it, or `tapeout envs build {facts.name}`",
        )
    if reason := environments.health(facts.name):
        hint = f"`tapeout envs rm {facts.name}`, then `tapeout envs build {facts.name}`"
        first, *others = reason.splitlines()
        log = others[-1] if others else first
        told = first.removeprefix(f"{name}: ") + (f" ({log})" if log != first else "")
        return Check(name=name, ok="problem", finding=told, hint=hint)
    return Check(name=name, ok="ok", finding=f"its imports work, {size}")


def servers() -> Iterator[Check]:
    """The tracking and orchestration servers that the user's variables name."""
    for name, variable in (("prefect", "PREFECT_API_URL"), ("mlflow", "MLFLOW_TRACKING_URI")):
        address = os.environ.get(variable, "")
        if not address:
            yield Check(name=name, ok="ok", finding=f"{variable} is not set: Tapeout keeps its own database")
        elif not address.startswith(("http://", "https://")):
            yield Check(name=name, ok="ok", finding=f"{variable} is {address}")
        else:
            yield _server(name, variable, address)


def _server(name: str, variable: str, address: str) -> Check:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=SERVER_LIMIT_S):
            return Check(name=name, ok="ok", finding=f"{address} answers")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        why = getattr(error, "reason", error)
        finding = f"{variable} is {address}, which does not answer: {why}"
        return Check(name=name, ok="problem", finding=finding, hint=f"start that server, or unset {variable}")


def _graded(name: str, value: float, least: float, enough: float, finding: str, hint: str) -> Check:
    if value < least:
        return Check(name=name, ok="problem", finding=finding, hint=hint)
    if value < enough:
        return Check(name=name, ok="warning", finding=finding, hint=hint)
    return Check(name=name, ok="ok", finding=finding)


def _run(command: list[str], limit_s: float) -> subprocess.CompletedProcess[str] | None:
    """The finished process, or None when it did not answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")
