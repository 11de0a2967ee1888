"""Bytes on their way in: counted, hashed, and published whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipelines.errors import SourceError, StoreError
from pipelines.progress import Bar

CHUNK_BYTES = 1 << 20


class SourceUnreachable(SourceError):
    """The source did not answer; a retry may mend that."""


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of an open file, in pieces of at most CHUNK_BYTES."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def counted(chunks: Iterable[bytes], bar: Bar, total: float | None, done: float = 0) -> Iterator[bytes]:
    """The same chunks; the bar counts their bytes, on top of those that are done."""
    for chunk in chunks:
        done += len(chunk)
        bar.update(done, total)
        yield chunk


def sha256_of(path: Path) -> str:
    """Hex digest of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_verified(chunks: Iterable[bytes], path: Path, expected: str | None, what: str) -> str:
    """Write the file beside its place, compare its sha256, then rename it; returns the digest.

    Raises:
        SourceError: the digest is not the expected one. Nothing is left behind.
    """
    digest = hashlib.sha256()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
        check_digest(digest.hexdigest(), expected, what)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


def check_digest(found: str, expected: str | None, what: str, expected_by: str = "the config") -> None:
    """Compare two hex digests.

    Raises:
        SourceError: they differ; it names both.
    """
    if expected is not None and found != expected:
        raise SourceError(
            f"{what}: its sha256 is {found}, {expected_by} says {expected}",
            "the file is not the one the config was written for: check the pin and the registry, "
            "or set the new sha256 if you trust the file",
        )


def without_credentials(url: str) -> str:
    """The address without user, password, query and fragment: fit for messages and manifests."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@contextmanager
def space_checked(folder: Path) -> Iterator[None]:
    """Turn a full disk inside the block into a StoreError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{folder}: no space left on the disk", "free some: `tapeout artifacts prune`, or move TAPEOUT_HOME"
        ) from error
