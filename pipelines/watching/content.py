"""The files of a checkpoint where it lies: when they changed, and what their bytes are."""

from __future__ import annotations

import hashlib
from pathlib import Path

FilesState = tuple[tuple[str, int, int], ...]
"""Name, size and time of every file."""


def state_of(entry: Path) -> FilesState:
    """As long as it is the same, nothing was written; empty for an empty folder."""
    stats = ((str(path.relative_to(entry.parent)), path.stat()) for path in _files(entry))
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def changed_ns(entry: Path, marker: str) -> int:
    """When the newest of its files was changed, but for a marker in it, in ns."""
    return max((_changed_ns(path) for path in _files(entry) if path != entry / marker), default=0)


def marked_ns(entry: Path, marker: str) -> int | None:
    """When its marker was changed, in ns: beside a file, or in a folder. None without one."""
    places = (entry.with_name(entry.name + marker), entry / marker)
    return max((_changed_ns(place) for place in places if place.is_file()), default=None)


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


def _files(entry: Path) -> list[Path]:
    return [entry] if entry.is_file() else sorted(path for path in entry.rglob("*") if path.is_file())


def _changed_ns(path: Path) -> int:
    """The kernel's own time: `cp -p` and `rsync -a` set the other one back. Of a link, whichever is later."""
    return max(path.stat().st_ctime_ns, path.lstat().st_ctime_ns)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
