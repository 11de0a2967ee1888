"""Archives of a model's folder, unpacked with distrust: nothing lands outside the folder, and no bomb goes off."""

from __future__ import annotations

import errno
import posixpath
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, cast

from pipelines.errors import SourceError

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SUFFIXES = ZIP + TAR
LARGEST_GROWTH = 100  # weights hardly compress (1.0-1.3x) and JSON does so 10x; deflate's own limit is 1032x
ALWAYS_ALLOWED_BYTES = 64 << 20
MOST_MEMBERS = 100_000


@dataclass(frozen=True)
class Member:
    """One entry. `link` is the name, inside the archive, of the file that a link stands for."""

    name: str
    size: int
    is_folder: bool = False
    link: str | None = None
    content: IO[bytes] | None = None


def is_archive(name: str) -> bool:
    """Whether a file of that name would be unpacked."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, into: Path) -> None:
    """Fill the folder with the archive's files; a single folder at its top is stripped, a link becomes a copy.

    Raises:
        SourceError: an entry would land outside the folder, is a device, or unpacks to more than the disk or
            100 times the archive holds; or the archive is damaged. It names the entry, and the folder stays empty.
    """
    staging = Path(tempfile.mkdtemp(dir=into, prefix=".unpack-"))
    try:
        with _damage_told(archive):
            _write(
                _zip_members(archive) if archive.name.lower().endswith(ZIP) else _tar_members(archive), archive, staging
            )
        top = _stripped(staging)
        for path in sorted(top.iterdir()):
            path.rename(into / path.name)
    finally:
        shutil.rmtree(staging)


def _write(members: Iterator[Member], archive: Path, folder: Path) -> None:
    """Links wait until every file is there; none is ever made on disk, so that nothing can be written through one."""
    allowance = _Allowance(archive, folder)
    links: dict[str, str] = {}
    for member in members:
        allowance.take(member.name, member.size)
        with _obstacle_told(archive, member.name):
            _write_one(member, folder / member.name)
        if member.link is not None:
            links[member.name] = member.link
    for name in links:
        target = _end_of(name, links)
        if not (folder / target).is_file():
            raise _refused(archive, name, f"is a link to `{target}`, which is no file of the archive")
        allowance.take(name, (folder / target).stat().st_size)
        with _obstacle_told(archive, name):
            shutil.copyfile(folder / target, folder / name)


def _write_one(member: Member, path: Path) -> None:
    (path if member.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
    if member.content is not None:
        with path.open("wb") as file:
            shutil.copyfileobj(member.content, file, 1 << 20)


def _end_of(name: str, links: dict[str, str]) -> str:
    target, seen = links[name], {name}
    while target in links and target not in seen:
        seen.add(target)
        target = links[target]
    return target


def _stripped(folder: Path) -> Path:
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


class _Allowance:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.members = archive, 0
        self.free = shutil.disk_usage(folder).free
        self.bytes = min(max(LARGEST_GROWTH * archive.stat().st_size, ALWAYS_ALLOWED_BYTES), self.free)

    def take(self, name: str, size: int) -> None:
        """Count an entry before it is written."""
        self.members += 1
        self.bytes -= size
        if self.bytes < 0 or self.members > MOST_MEMBERS:
            most = (
                f"{self.free:,} bytes free on the disk, {LARGEST_GROWTH} times the archive, or {MOST_MEMBERS:,} files"
            )
            raise _refused(self.archive, name, f"unpacks to more than {most}")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as entries:
        for entry in entries.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            name = _safe(archive, entry.filename)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise _refused(archive, name, "is a device, pipe or socket")
            if entry.flag_bits & 1:
                raise _refused(archive, name, "is encrypted")
            if entry.is_dir():
                yield Member(name, 0, is_folder=True)
            elif kind == stat.S_IFLNK:
                yield Member(name, 0, link=_link(archive, name, entries.read(entry)[:4096].decode(errors="replace")))
            else:
                with entries.open(entry) as content:
                    yield Member(name, entry.file_size, content=content)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as entries:
        for entry in entries:
            name = _safe(archive, entry.name)
            if entry.isdir():
                yield Member(name, 0, is_folder=True)
            elif entry.issym():
                yield Member(name, 0, link=_link(archive, name, entry.linkname))
            elif entry.islnk():
                yield Member(name, 0, link=_safe(archive, entry.linkname))
            elif entry.isreg():
                yield Member(name, entry.size, content=cast("Any", entries.extractfile(entry)))
            else:
                raise _refused(archive, name, "is a device, pipe or socket")


def _safe(archive: Path, name: str) -> str:
    """The normalized relative name of an entry."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or re.match("[A-Za-z]:", name):
        raise _refused(archive, name, "would be written outside its folder")
    return posixpath.normpath(name)


def _link(archive: Path, name: str, target: str) -> str:
    """The name, inside the archive, of what a symlink points at."""
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if target.startswith("/") or resolved.split("/")[0] == "..":
        raise _refused(archive, name, f"is a link that leaves its folder, to `{target}`")
    return resolved


def _refused(archive: Path, name: str, why: str) -> SourceError:
    return SourceError(
        f"{archive.name}: refused: `{name}` {why}",
        "pack the model's folder anew, plain files only, or use another archive",
    )


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError) as error:
        raise SourceError(
            f"{archive.name}: the archive is truncated or damaged: {error}", "download it again, or pack it anew"
        ) from error


@contextmanager
def _obstacle_told(archive: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _refused(archive, name, f"cannot be written: {error.strerror}") from error
