"""Checkpoints at an address: one file, which another one takes the place of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.errors import SourceError
from pipelines.fetching.addresses import failures, options
from pipelines.fetching.downloads import without_credentials
from pipelines.storage.shared import S3
from pipelines.watching.content import digest_of
from pipelines.watching.finding import Found
from pipelines.watching.pace import Pace
from pipelines.watching.trigger import UrlTrigger

TAGS = ("ETag", "etag")
TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created")
"""What drivers call a file's time: of HTTP, S3, Azure, Google, SFTP and this machine."""
STATE = ("size", "Content-MD5", "Digest", *TIMES)


@dataclass
class UrlFinder:
    """The file at an address, fetched when its ETag, or else its size and time, is new."""

    trigger: UrlTrigger
    incoming: Path
    _given: str = ""
    _opened: tuple[Any, str] | None = None
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.trigger.every_s)

    def look(self) -> Iterator[Found]:
        """The file, if it is another than at the last look."""
        if not self._pace.due():
            return
        try:
            self._opened = self._opened or _opened(self.trigger.url)
            files, path = self._opened
        except (ImportError, ValueError) as error:
            raise self._unread(error) from error
        try:
            identity = _identity(files.info(path))
            if identity == self._given:
                return
            found = self._fetched(files, path)
            after = _identity(files.info(path))
        except _failures() as error:
            raise self._unread(error) from error
        if after == identity:  # else replaced while it was read: the next look takes the new one
            yield found
            self._given = identity  # once it is remembered
        else:
            self._pace.hurry()

    def _unread(self, error: Exception) -> SourceError:
        # fsspec calls every failure to ask HTTP about a file a missing file
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        status = getattr(cause, "status", None)
        reason = f"HTTP {status}" if status else str(cause) or type(cause).__name__
        where = without_credentials(self.trigger.url)
        return SourceError(f"{where}: cannot be read: {reason}", "it is looked for again")

    def _fetched(self, files: Any, path: str) -> Found:
        name = PurePosixPath(unquote(urlsplit(self.trigger.url).path)).name
        work = self.incoming / f".{name}.part"
        self.incoming.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(work))
        digest = digest_of(work, None)
        place = self.incoming / digest / name
        place.parent.mkdir(exist_ok=True)
        shutil.move(work, place)
        return Found(name, place, digest)


def _opened(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    scheme = urlsplit(url).scheme
    files, path = url_to_fs(url, **(S3 if scheme in ("s3", "s3a") else options(scheme)))
    return files, path


def _identity(info: dict[str, object]) -> str:
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    return str(tag or [info.get(name) for name in STATE])


def _failures() -> tuple[type[Exception], ...]:
    return ValueError, *failures()
