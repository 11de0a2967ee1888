"""The shared store: artifacts and keys that several machines see, behind any address that fsspec opens.

PREFIX/objects/<d2>/<digest>/...     an artifact's files
PREFIX/objects/<d2>/<digest>.json    its manifest, written after them
PREFIX/logs/<key>.log                the log of the step that made it
PREFIX/keys/<key>.json               what the key gave, written last

A reader starts at the key, so what was sent in part is nobody's hit; and what it fetches has to read as the key's
digest, so neither is an object that a filesystem without atomic writes, or a fault, left damaged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from pipelines.errors import StoreError, UserError
from pipelines.fetching.addresses import failures
from pipelines.storage.digest import Manifest
from pipelines.storage.entries import Entry

AWAY_S = 60.0
"""For how long a store that could not be reached is not asked again: a run asks for dozens of keys."""
PATIENCE = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
S3 = {"config_kwargs": PATIENCE, "use_listings_cache": False, "skip_instance_cache": True}
WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
WAY_OUT = "look at `store:`, and at AWS_ENDPOINT_URL and the credentials in the environment for one on S3"


class Shared:
    """One address. While it is away every key is a miss, and what is made stays here and is sent later.

    `say` gets a line when it goes away.
    """

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url, self._say = re.sub("//[^/@]*@", "//", url), say
        self._files, self._root = _opened(url)
        protocol = self._files.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._mistaken, self._unreachable = _mistakes(), failures()
        self._away_until = 0.0

    def check(self) -> None:
        """Refuse an address that is wrong; one that is only away is told and waited for.

        Raises:
            StoreError: there is no such bucket or folder, or it may not be read.
        """
        if "s3" not in self._protocols:
            return
        bucket = self._root.partition("/")[0]
        with self._asking():
            try:
                self._files.call_s3("head_bucket", Bucket=bucket)
            except FileNotFoundError:
                raise StoreError(f"store {self.url}: there is no bucket {bucket}", WAY_OUT) from None
            except self._mistaken as error:
                raise StoreError(f"store {self.url}: {_reason(error)}", WAY_OUT) from error

    def fetch(self, key: str, out: Path, log: Path) -> Entry | None:
        """Fill `out`, and `log` if there is one, with what the key gave; None if it gave nothing that is whole.

        The caller compares the digest of `out` with the entry's.
        """
        with self._asking() as asking:
            if not asking:
                return None
            try:
                entry = Entry.model_validate_json(self._files.cat_file(self._key(key)))
            except (FileNotFoundError, ValidationError):
                return None
            try:
                self._fetch(entry, out, log)
            except (FileNotFoundError, ValidationError):
                self.forget(key, entry.digest)
                return None
            return entry
        return None

    def _fetch(self, entry: Entry, out: Path, log: Path) -> None:
        manifest = Manifest.model_validate_json(self._files.cat_file(self._manifest(entry.digest)))
        for path in map(_inside, manifest.files):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{self._object(entry.digest)}/{path}", str(out / path))
        if entry.log:
            with suppress(FileNotFoundError):
                self._files.get_file(f"{self._root}/{entry.log}", str(log))

    def send(self, entry: Entry, store: Path) -> bool:
        """Make what the key gave everybody's; whether that was possible now.

        `store` is the folder of the local one, where the object is whole already.
        """
        sent = False
        with self._asking() as asking:
            if asking:
                self._send(entry, store)
                sent = True
        return sent

    def forget(self, key: str, digest: str) -> None:
        """Drop a key whose object does not read as its digest, so that the step's next result is sent whole."""
        with self._asking() as asking:
            for path in (self._key(key), self._manifest(digest)) if asking else ():
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def _send(self, entry: Entry, store: Path) -> None:
        local = store / "objects" / entry.digest[:2]
        manifest = local / f"{entry.digest}.json"
        if not self._files.exists(self._manifest(entry.digest)):
            for path in Manifest.model_validate_json(manifest.read_bytes()).files:
                self._put(local / entry.digest / path, f"{self._object(entry.digest)}/{path}")
            self._put(manifest, self._manifest(entry.digest))
        if entry.log and (store / entry.log).is_file():
            self._put(store / entry.log, f"{self._root}/{entry.log}")
        self._make_room(self._key(entry.key))
        self._files.pipe_file(self._key(entry.key), entry.model_dump_json(exclude={"used"}).encode())

    def _put(self, local: Path, path: str) -> None:
        self._make_room(path)
        self._files.put_file(str(local), path)

    def _make_room(self, path: str) -> None:
        if not self._protocols & WITHOUT_FOLDERS:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _asking(self) -> Iterator[bool]:
        """Whether it is worth asking; the block ends early, and all is well, when the store cannot be reached."""
        if time.monotonic() < self._away_until:
            yield False
            return
        try:
            yield True
        except self._unreachable as error:
            self._away_until = time.monotonic() + AWAY_S
            self._say(f"store {self.url}: {_reason(error)}; going on with the local store alone")

    def _key(self, key: str) -> str:
        return f"{self._root}/keys/{key}.json"

    def _object(self, digest: str) -> str:
        return f"{self._root}/objects/{digest[:2]}/{digest}"

    def _manifest(self, digest: str) -> str:
        return f"{self._object(digest)}.json"


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url, **(S3 if url.startswith(("s3:", "s3a:")) else {}))
    except ImportError as error:
        raise UserError(f"store {url}: {error}", "`make setup EXTRAS=s3`, or pip install 'tapeout[s3]'") from error
    except ValueError as error:
        raise UserError(f"store {url}: {error}", "write an address such as s3://bucket/prefix") from error
    return files, root.rstrip("/")


def _mistakes() -> tuple[type[Exception], ...]:
    """What a filesystem raises when the address or the credentials are wrong."""
    try:
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError
    except ImportError:
        return (PermissionError,)
    return PermissionError, NoCredentialsError, PartialCredentialsError


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _inside(path: str) -> str:
    """A path of a manifest that another machine wrote, which must not lead out of the folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise StoreError(f"a manifest of the shared store names {path!r}", "look who can write to it")
    return path
