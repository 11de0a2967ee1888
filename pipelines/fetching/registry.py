"""One file out of a package of the registry that the user's pip is set up for; nothing of the package is executed."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from pipelines.errors import SourceError
from pipelines.fetching.downloads import (
    SourceUnreachable,
    check_digest,
    chunks_of,
    counted,
    space_checked,
    without_credentials,
    write_verified,
)
from pipelines.fetching.package_index import Index, open_index, way_out
from pipelines.fetching.pip_settings import PipSettings, read_pip_settings
from pipelines.progress import Progress
from stages.base import Frozen

if TYPE_CHECKING:
    import httpx2
    from unearth import Link

ZIPS = (".whl", ".zip")


class Extracted(Frozen):
    """A file that came out of a package; `origin` is the address of the package's archive."""

    path: Path
    sha256: str
    origin: str


class NotInside(SourceError):
    """The package's archive does not hold the file."""


def extract(
    pin: str, file: str, sha256: str | None, into: Path, progress: Progress, settings: PipSettings | None = None
) -> Extracted:
    """Put the file of `name==version` into the folder `into`, under its own name.

    `file` is its path inside the wheel, or inside the sdist without the sdist's top folder. A wheel is preferred,
    whatever platform it is for; the sdist is read when there is no wheel or the wheel does not hold the file. The
    settings are those of the user's pip unless given.

    Raises:
        SourceUnreachable: the registry does not answer.
        SourceError: no such package, version or file, or its sha256 is another.
    """
    with space_checked(into), open_index(settings or read_pip_settings()) as index:
        missing: NotInside | None = None
        for package in index.archives(pin):
            try:
                return _extract(index, package.link, Wanted(pin, file, sha256, into), progress)
            except NotInside as error:
                missing = missing or error
        assert missing is not None
        raise missing


@dataclass(frozen=True)
class Wanted:
    """One file of one package, and the folder it goes to."""

    pin: str
    file: str
    sha256: str | None
    into: Path

    def write(self, content: IO[bytes], origin: str) -> Extracted:
        """Publish the content if its sha256 is the wanted one."""
        path = self.into / PurePosixPath(self.file).name
        digest = write_verified(chunks_of(cast("Any", content)), path, self.sha256, f"{self.pin}: {self.file}")
        return Extracted(path=path, sha256=digest, origin=origin)

    def missing(self, names: list[str], origin: str) -> NotInside:
        """The error for an archive that holds these names."""
        twins = [name for name in names if PurePosixPath(name).name == PurePosixPath(self.file).name]
        near = list(dict.fromkeys((*twins, *get_close_matches(self.file, names, n=3))))[:3]
        hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else f"it holds {len(names)} files"
        return NotInside(f"{self.pin}: no `{self.file}` in {PurePosixPath(origin).name}", hint)


def _extract(index: Index, link: Link, wanted: Wanted, progress: Progress) -> Extracted:
    import httpx2

    origin = without_credentials(link.url_without_fragment)
    # identity: some servers label a .tar.gz with `Content-Encoding: gzip`, and a client would unpack it
    request = index.get_stream(link.normalized, headers={"Accept-Encoding": "identity"})
    try:
        with request as response, progress.bar(f"fetch {wanted.pin}", unit="bytes") as bar:
            _check_status(response, origin)
            total = float(response.headers.get("Content-Length", 0)) or None
            body = counted(response.iter_raw(), bar, total)
            if link.filename.endswith(ZIPS):
                return _from_zip(body, link, wanted, origin)
            return _from_tar(body, wanted, origin)
    except httpx2.TransportError as error:
        reason = error or type(error).__name__
        raise SourceUnreachable(f"{wanted.pin}: the download broke off: {origin}: {reason}", way_out()) from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise SourceError(f"{wanted.pin}: {origin} is truncated or damaged: {error}", way_out()) from error


def _check_status(response: httpx2.Response, origin: str) -> None:
    if response.status_code < 400:
        return
    error = SourceUnreachable if response.status_code == 429 or response.status_code >= 500 else SourceError
    raise error(f"{origin}: HTTP {response.status_code} {response.reason_phrase}", way_out())


def _from_zip(body: Iterator[bytes], link: Link, wanted: Wanted, origin: str) -> Extracted:
    """A zip's directory is at its end, so all of it comes first: to a file without a name, which leaves no trace."""
    with tempfile.TemporaryFile(dir=wanted.into) as archive:
        for chunk in body:
            archive.write(chunk)
        _check_against_index(archive, link, origin)
        with zipfile.ZipFile(archive) as members:
            top = "" if link.is_wheel else members.namelist()[0].partition("/")[0] + "/"
            names = [name.removeprefix(top) for name in members.namelist() if not name.endswith("/")]
            if wanted.file not in names:
                raise wanted.missing(names, origin)
            with members.open(top + wanted.file) as content:
                return wanted.write(content, origin)


def _check_against_index(archive: IO[bytes], link: Link, origin: str) -> None:
    import hashlib

    expected = (link.hash_option or {}).get("sha256")
    if expected:
        archive.seek(0)
        found = hashlib.file_digest(cast("Any", archive), "sha256").hexdigest()
        check_digest(found, expected[0], origin, "its index")


def _from_tar(body: Iterator[bytes], wanted: Wanted, origin: str) -> Extracted:
    """A tar is read as it comes, and no further than the file."""
    names = []
    with tarfile.open(fileobj=cast("Any", _Stream(body)), mode="r|*") as members:
        for member in members:
            name = member.name.partition("/")[2]
            if name == wanted.file and member.isreg():
                content = members.extractfile(member)
                assert content is not None
                return wanted.write(content, origin)
            if member.isreg():
                names.append(name)
    raise wanted.missing(names, origin)


class _Stream:
    """Chunks as the file that tarfile reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.left = chunks, b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer only at the end."""
        while len(self.left) < size and (chunk := next(self.chunks, b"")):
            self.left += chunk
        piece, self.left = self.left[:size], self.left[size:]
        return piece
