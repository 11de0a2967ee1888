"""Fills a folder with a virtual environment: venv, pip, `pip check`, and the imports that prove it works."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.building import tethered
from pipelines.building.lockfile import LockFile, canonical
from pipelines.building.pip_failures import diagnose
from pipelines.errors import EnvironmentUnavailable
from pipelines.progress import Bar

HEALTH_CHECK = """
import importlib, importlib.metadata, json, sys
# whatever PYTHONDONTWRITEBYTECODE says: every process of the environment would compile anew
sys.dont_write_bytecode = False
sys.modules["openvino_telemetry"] = None  # OpenVINO and NNCF would report their use to their vendor
# ahead of the imports: setuptools puts its vendored packages on the path, of other versions than those installed
installed = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
for module in sys.argv[1:]:
    importlib.import_module(module)
print(json.dumps(installed))
"""
STEP = re.compile(r"\s*(?P<verb>Collecting|Processing|Downloading|Building wheel for) (?P<what>\S+)")
NOT_INSTALLED = re.compile(r"\S+ \S+ requires (\S+), which is not installed\.")
MOST_NAMED = 5
NAME = re.compile(r"[A-Za-z0-9._]+(-[A-Za-z][A-Za-z0-9._]*)*")


@dataclass(frozen=True)
class Site:
    """Where an environment is being built; the descriptor `hold` stays open as long as any of its processes live."""

    folder: Path
    log: Path
    hold: int | None = None

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.folder / "bin" / "python"

    def packages(self) -> int:
        """How many packages lie in it."""
        return sum(1 for _ in self.folder.glob("lib/python*/site-packages/*.dist-info"))


def install(lock: LockFile, site: Site, bar: Bar) -> dict[str, str]:
    """Build the environment; the versions that were installed, by canonical name.

    Raises:
        EnvironmentUnavailable: with the cause, pip's last lines and the way out.
    """
    bar.update(0, len(lock.pins), "creating the virtual environment")
    # pip of this interpreter installs into the other one: unpacking a pip for every environment costs 3 s
    borrowed = importlib.util.find_spec("pip") is not None
    _run(lock, site, "venv", [*(["--without-pip"] if borrowed else []), str(site.folder)], Path(sys.executable))
    with _requirements(lock) as (plain, hashed, constraints):
        watch = PipWatch(lock, site, bar)
        variables = pip_environment(constraints if lock.build_tools else None)

        def pip(*arguments: str) -> None:
            python, target = (Path(sys.executable), ["--python", str(site.python)]) if borrowed else (site.python, [])
            _run(lock, site, "pip", [*target, *arguments], python, variables, watch)

        # no bytecode for 20,000 files of which a run imports a tenth: the health check writes what is needed
        options = ["--no-compile", "--progress-bar=off", "--no-input"]
        if lock.plain:
            pip("install", *options, "-r", str(plain))
        if lock.hashed:
            pip("install", *options, "--no-deps", "--require-hashes", "-r", str(hashed))
            pip("check")
    bar.update(len(lock.pins), len(lock.pins), "checking")
    return check_imports(lock, site)


def check_imports(lock: LockFile, site: Site) -> dict[str, str]:
    """Import what the environment is for; the versions found in it.

    Raises:
        EnvironmentUnavailable: an import fails or crashes.
    """
    lines = _run(lock, site, HEALTH_CHECK, list(lock.imports), site.python)
    found: dict[str, str] = json.loads(lines[-1])
    return {canonical(name): version for name, version in sorted(found.items())}


def changed(lock: LockFile, found: Mapping[str, str]) -> str | None:
    """Which of the pinned packages the environment has in another version than when it was built, or lacks; or None.

    Somebody installed into it, or an installation was cut off: what it makes is no longer what the cache key says.
    """
    others = {name: found.get(name) for name, pin in lock.pins.items() if not _same(pin, found.get(name))}
    if not others:
        return None
    told = [f"{name} is {version or 'missing'}, pinned {lock.pins[name]}" for name, version in sorted(others.items())]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return f"environment {lock.name}: its libraries changed under it: {'; '.join(told[:MOST_NAMED])}{more}"


def _same(pin: str, version: str | None) -> bool:
    """A registry's CPU build is the same version with a local part: 2.13.0 and 2.13.0+cpu."""
    return version is not None and pin.partition("+")[0] == version.partition("+")[0]


def pip_environment(constraints: Path | None) -> dict[str, str]:
    """The user's own variables without PYTHONPATH, and with the versions of build tools beside their own constraints.

    pip hands PIP_CONSTRAINT on to its build environments up to 25.2, PIP_BUILD_CONSTRAINT from 25.3.
    """
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if constraints:
        for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
            variables[name] = f"{variables.get(name, '')} {constraints.as_uri()}".strip()
    return variables


class PipWatch:
    """Turns what pip prints, and what appears on disk while it prints nothing, into a bar."""

    def __init__(self, lock: LockFile, site: Site, bar: Bar) -> None:
        self.lock, self.site, self.bar = lock, site, bar
        self.collected: set[str] = set()
        self.installing = False

    def see(self, text: str | None) -> None:
        """One line of pip, or None: it is silent while it unpacks, so what is there is counted."""
        self.installing |= bool(text and text.startswith("Installing collected packages"))
        if self.installing:
            total = len(self.lock.pins)
            self.bar.update(min(self.site.packages(), total), total, "installing")
        elif match := STEP.match(text or ""):
            self._step(match["verb"], match["what"])

    def _step(self, verb: str, what: str) -> None:
        file_or_package = what.rpartition("/")[2]
        if verb in ("Collecting", "Processing") and (name := NAME.match(file_or_package)):
            self.collected.add(canonical(name[0]))
        doing = f"{verb.lower()} {file_or_package}"
        if verb.startswith("Building"):
            minutes = f" (first time: {self.lock.build_minutes} minutes)" if self.lock.build_minutes else ""
            doing = f"building {what} from source{minutes}"
        self.bar.update(len(self.collected & self.lock.pins.keys()), len(self.lock.pins), doing)


@contextmanager
def _requirements(lock: LockFile) -> Iterator[tuple[Path, Path, Path]]:
    """The lock in pip's terms: a hash in a file makes pip want one for every line of it, so there are two."""
    with tempfile.TemporaryDirectory(prefix="tapeout-pip-") as scratch:
        files = [Path(scratch, name) for name in ("requirements.txt", "hashed.txt", "build-tools.txt")]
        for file, lines in zip(files, (lock.plain, lock.hashed, lock.build_tools), strict=True):
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield files[0], files[1], files[2]


def _run(
    lock: LockFile,
    site: Site,
    module: str,
    arguments: list[str],
    python: Path,
    variables: Mapping[str, str] | None = None,
    watch: PipWatch | None = None,
) -> list[str]:
    code = module if "\n" in module else tethered.run_module(module)
    done = tethered.run(python, code, arguments, site.log, keep_open=site.hold, variables=variables, watch=watch)
    if done.status == 0 or _only_left_out(lock, done.lines):
        return done.lines
    cause = diagnose(done, site.folder.parent)
    raise EnvironmentUnavailable(
        f"environment {lock.name}: {cause.what}\n\n{cause.quote}\n\nlog: {site.log}",
        f"{cause.hint}; then `tapeout envs build {lock.name}`",
    )


def _only_left_out(lock: LockFile, said: list[str]) -> bool:
    """Whether all that `pip check` misses is what the lock leaves out on purpose."""
    missing = [NOT_INSTALLED.fullmatch(line.strip()) for line in said if line.strip()]
    return bool(missing) and all(each and canonical(each[1]) in lock.left_out for each in missing)
