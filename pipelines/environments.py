"""The tool environments: one pinned, isolated virtual environment per tool set, built on first use."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import platform
import re
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

from pipelines.building import installing, lockfile
from pipelines.building.built import Built, built, discard, locked, publish, remove, size_bytes
from pipelines.building.lockfile import LockFile
from pipelines.building.pip_failures import disk_full
from pipelines.errors import EnvironmentUnavailable
from pipelines.progress import Progress
from pipelines.working_time import aside
from stages.base import ROOT, Frozen

FOLDER = re.compile(r"(?P<name>.+)-(?P<digest>[0-9a-f]{12})")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class EnvironmentFacts(Frozen):
    """One environment as `tapeout envs ls` shows it. `current` is False for one of an older pinned file."""

    name: str
    purpose: str
    path: Path
    digest: str
    built: bool
    healthy: bool
    current: bool
    size_bytes: int
    seconds: float
    versions: dict[str, str]


class Environments:
    """The environments in TAPEOUT_ENVS, else under `home`/envs, as the pinned files in `locks` describe them.

    Each is built in the folder where it stays, because the scripts of a virtual environment carry its absolute path,
    and published by renaming a marker file into it last: a folder without marker is no environment. A lock is held
    while one is built, and a folder without marker whose lock nobody holds is what a killed build left.
    """

    def __init__(self, home: Path, locks: Path = ROOT / "envs") -> None:
        self.home, self.locks = home.resolve(), locks
        apart = os.environ.get("TAPEOUT_ENVS")
        self.folder = Path(apart).resolve() if apart else self.home / "envs"

    def known(self) -> list[str]:
        """Names of the tool environments; the pinned files that name no imports are the orchestrator's own."""
        return sorted(path.stem for path in self.locks.glob("*.txt") if lockfile.read(path).imports)

    def lock_file(self, name: str) -> LockFile:
        """The pinned file of an environment.

        Raises:
            EnvironmentUnavailable: there is none of that name.
        """
        return lockfile.read(self._pinned(name))

    def lock_digest(self, name: str) -> str:
        """sha256 of the pinned file, the Python and the machine's architecture."""
        identity = f"{platform.python_implementation()} {platform.python_version()} {sysconfig.get_platform()}"
        return hashlib.sha256(self._pinned(name).read_bytes() + identity.encode()).hexdigest()

    def versions(self, name: str) -> dict[str, str]:
        """Pinned version by package."""
        return self.lock_file(name).pins

    def path(self, name: str) -> Path:
        """Where the environment is, or will be."""
        return self.folder / f"{name}-{self.lock_digest(name)[:12]}"

    def python(self, name: str, progress: Progress) -> Path:
        """The environment's interpreter; builds the environment on first use.

        Call its tools as `python -m tool`.

        Raises:
            EnvironmentUnavailable: with the cause, the log and the way out.
        """
        folder = self.path(name)
        if built(folder) is None:
            with aside():
                self._build(name, folder, progress)
        return folder / "bin" / "python"

    def build(self, name: str, progress: Progress) -> EnvironmentFacts:
        """Build the environment unless it is there; what it is."""
        self.python(name, progress)
        return self._facts(name, self.path(name))

    def remove(self, name: str) -> int:
        """Remove every environment of that name, older ones too; the bytes freed.

        Raises:
            EnvironmentUnavailable: no such environment is known or built.
        """
        found = [folder for folder in self._folders() if _name_of(folder) == name]
        if not found:
            self._pinned(name)
        freed = 0
        for folder in found:
            with locked(folder):
                found_there = built(folder)
                freed += found_there.size_bytes if found_there else 0
                remove(folder)
        return freed

    def ls(self) -> list[EnvironmentFacts]:
        """Every known environment, and the built ones of older pinned files."""
        known = [self._facts(name, self.path(name)) for name in self.known()]
        paths = {facts.path for facts in known}
        older = [folder for folder in self._folders() if folder not in paths and built(folder)]
        return known + [self._facts(_name_of(folder), folder, current=False) for folder in older]

    def health(self, name: str) -> str | None:
        """Import what the environment is for, now, and compare its versions with the pins; what is wrong, or None.

        Raises:
            EnvironmentUnavailable: there is no environment of that name.
        """
        lock, folder = self.lock_file(name), self.path(name)
        if built(folder) is None:
            return "not built"
        try:
            found = installing.check_imports(lock, installing.Site(folder, self._log(folder)))
        except EnvironmentUnavailable as unhealthy:
            return unhealthy.message
        return installing.changed(lock, found)

    def sweep(self) -> None:
        """Remove what killed builds left: folders without marker whose lock nobody holds."""
        for folder in self._folders():
            if built(folder) is None:
                with suppress(BlockingIOError), locked(folder, wait=False):
                    discard(folder)

    def _pinned(self, name: str) -> Path:
        path = self.locks / f"{name}.txt"
        known = self.known()
        if name in known:
            return path
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
        raise EnvironmentUnavailable(f"no tool environment is named `{name}`", f"{hint}   (tapeout envs ls)")

    def _build(self, name: str, folder: Path, progress: Progress) -> None:
        lock = self.lock_file(name)
        try:
            self.sweep()
            with locked(folder, lambda: progress.say(f"waiting: environment {name} is being built")) as hold:
                if built(folder) is None:
                    self._build_locked(lock, installing.Site(folder, self._log(folder), hold), progress)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            cause = disk_full(self.home)
            raise EnvironmentUnavailable(f"environment {name}: {cause.what}", cause.hint) from error

    def _build_locked(self, lock: LockFile, site: installing.Site, progress: Progress) -> None:
        started = time.monotonic()
        discard(site.folder)
        site.log.write_bytes(b"")
        try:
            with progress.bar(f"environment {lock.name}", len(lock.pins), "packages") as bar:
                versions = installing.install(lock, site, bar)
            seconds = round(time.monotonic() - started, 1)
            digest, size = self.lock_digest(lock.name), size_bytes(site.folder)
            publish(site.folder, Built(digest=digest, seconds=seconds, size_bytes=size, versions=versions))
        finally:
            discard(site.folder)

    def _facts(self, name: str, folder: Path, *, current: bool = True) -> EnvironmentFacts:
        there = built(folder)
        return EnvironmentFacts(
            name=name,
            purpose=self.lock_file(name).purpose if current else "of an older pinned file",
            path=folder,
            digest=there.digest if there else self.lock_digest(name),
            built=there is not None,
            healthy=there is not None,
            current=current,
            size_bytes=there.size_bytes if there else 0,
            seconds=there.seconds if there else 0.0,
            versions=there.versions if there else self.versions(name),
        )

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and FOLDER.fullmatch(path.name))

    def _log(self, folder: Path) -> Path:
        log = self.home / "logs" / f"environment-{folder.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return log


def _name_of(folder: Path) -> str:
    match = FOLDER.fullmatch(folder.name)
    return match["name"] if match else folder.name
