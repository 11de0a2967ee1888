"""Checkpoints where they land: which are whole, and what their bytes are."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipelines.errors import SourceError
from pipelines.watching.pace import Pace
from pipelines.watching.trigger import FolderTrigger, UrlTrigger

State = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Found:
    """A whole checkpoint on this machine."""

    name: str
    path: Path
    digest: str


class Finder(Protocol):
    """Looks where checkpoints land."""

    def look(self) -> Iterator[Found]:
        """Every whole checkpoint that was not given before, the oldest first.

        Raises:
            SourceError: the place cannot be read now; the next look may succeed.
        """
        ...


@dataclass
class FolderFinder:
    """Entries of a folder. One is whole when its marker is there, or nothing of it changed for the quiet period.

    The quiet period is counted by this process's own clock from the last change it saw: neither a clock that jumps
    nor a file time from another machine makes a half-written checkpoint whole.
    """

    trigger: FolderTrigger
    base: Path
    _changed: dict[str, tuple[State, float]] = field(default_factory=dict)
    _given: dict[str, State] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where it looks."""
        return self.base / self.trigger.folder.expanduser()

    def look(self) -> Iterator[Found]:
        """Every whole checkpoint that was not given before in its present state."""
        try:
            entries = sorted(filter(self._is_candidate, self.folder.iterdir()), key=_age)
        except OSError as error:
            raise SourceError(f"{self.folder}: cannot be watched: {error.strerror}", "it is looked for again") from None
        unreadable: list[str] = []
        for entry in entries:
            try:
                state = _state(entry)
                if not state or self._given.get(entry.name) == state or not self._is_whole(entry, state):
                    continue
                digest = digest_of(entry, self.trigger.marker)
                if _state(entry) != state:  # written to while it was read
                    continue
            except FileNotFoundError:  # gone or renamed meanwhile
                continue
            except OSError as error:  # one that cannot be read keeps no other from being found
                unreadable.append(f"{entry.name}: {error.strerror}")
                continue
            yield Found(entry.name, entry.absolute(), digest)
            self._given[entry.name] = state  # once it is remembered: a full disk gives it again
        if unreadable:
            raise SourceError(f"{self.folder}: cannot be read: {'; '.join(unreadable)}", "it is looked for again")

    def _is_candidate(self, entry: Path) -> bool:
        marker = self.trigger.marker
        is_marker = marker is not None and entry.is_file() and entry.name.endswith(marker)
        return entry.name[0] != "." and not is_marker and fnmatch.fnmatch(entry.name, self.trigger.pattern)

    def _is_whole(self, entry: Path, state: State) -> bool:
        if self.trigger.marker is not None:
            beside = entry.with_name(entry.name + self.trigger.marker)
            return beside.is_file() or (entry / self.trigger.marker).is_file()
        seen, since = self._changed.get(entry.name, (None, 0.0))
        if seen != state:
            self._changed[entry.name] = state, time.monotonic()
            return self.trigger.quiet_s == 0
        return bool(state) and time.monotonic() - since >= self.trigger.quiet_s


@dataclass
class UrlFinder:
    """The file at an address, fetched when its ETag, or else its size and time, is new."""

    trigger: UrlTrigger
    incoming: Path
    _given: str = ""
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.trigger.every_s)

    def look(self) -> Iterator[Found]:
        """The file, if it is another than at the last look."""
        if not self._pace.due():
            return
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(self.trigger.url)
            identity = _identity(system.info(path))
            if identity == self._given:
                return
            found = self._fetched(system, path)
            after = _identity(system.info(path))
        except (OSError, ValueError, ImportError) as error:
            raise SourceError(f"{self.trigger.url}: cannot be read: {error}", "it is looked for again") from error
        if after == identity:  # else replaced while it was read: the next look takes the new one
            self._given = identity
            yield found
        else:
            self._pace.hurry()

    def _fetched(self, system: object, path: str) -> Found:
        name = Path(path).name
        work = self.incoming / f".{name}.part"
        self.incoming.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(work))  # type: ignore[attr-defined]
        digest = digest_of(work, None)
        place = self.incoming / digest / name
        place.parent.mkdir(exist_ok=True)
        shutil.move(work, place)
        return Found(name, place, digest)


def _identity(info: dict[str, object]) -> str:
    tag = info.get("ETag") or info.get("etag")
    return str(tag or [info.get(key) for key in ("size", "mtime", "LastModified", "created")])


def _age(entry: Path) -> tuple[int, str]:
    try:
        return entry.stat().st_mtime_ns, entry.name
    except OSError:  # a link that leads nowhere, or gone meanwhile
        return 0, entry.name


def _state(entry: Path) -> State:
    files = [entry] if entry.is_file() else sorted(path for path in entry.rglob("*") if path.is_file())
    stats = ((str(path.relative_to(entry.parent)), path.stat()) for path in files)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def digest_of(entry: Path, marker: str | None) -> str:
    """sha256 of a file's bytes, or over the names and bytes of a folder's files; the entry's own name is no part."""
    if entry.is_file():
        return _sha256(entry)
    digest = hashlib.sha256()
    for path in sorted(entry.rglob("*")):
        name = path.relative_to(entry).as_posix()
        if path.is_file() and name != marker:
            digest.update(name.encode() + b"\0" + _sha256(path).encode() + b"\0")
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
