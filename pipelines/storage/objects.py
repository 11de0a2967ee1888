"""Objects: the files of artifacts, one read-only folder a digest, with a manifest beside it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pipelines.errors import StoreError
from pipelines.storage.digest import FileFacts, Manifest, file_facts, manifest_of, scan
from pipelines.storage.disk import put, sync, sync_tree, write_synced
from pipelines.storage.work import claimed, discard, make_read_only, move

Read = Callable[[int], None]


class Objects:
    """The folder of objects, and the one where damaged objects are kept aside."""

    def __init__(self, folder: Path, work: Path, quarantine: Path) -> None:
        self.folder, self.work, self.quarantine = folder, work, quarantine

    def path(self, digest: str) -> Path:
        """The artifact's folder."""
        return self.folder / digest[:2] / digest

    def manifest_path(self, digest: str) -> Path:
        """The manifest beside it."""
        return self.folder / digest[:2] / f"{digest}.json"

    def digests(self) -> set[str]:
        """Every object, those without files or without a manifest included."""
        return {path.name.removesuffix(".json") for path in self.folder.glob("*/*")}

    def complete(self) -> set[str]:
        """Every object that has files: a killed publishing may leave a manifest without."""
        return {digest for digest in self.digests() if self.path(digest).is_dir()}

    def size_bytes(self, digest: str) -> int:
        """What the object takes on the disk, or 0."""
        return size_of(self.path(digest)) + size_of(self.manifest_path(digest))

    def place(self, digest: str, out: Path, manifest: Path) -> bool:
        """Make `out` and its manifest, both synced, the object; whether it is new here.

        An object that is there already and reads right to the last byte stays, and `out` where it is.
        """
        damage = self.damage(digest, thorough=True)
        if not damage:
            return False
        self.set_aside(digest)
        if not self.path(digest).parent.is_dir():
            self.path(digest).parent.mkdir(exist_ok=True)
            sync(self.folder)
        try:
            manifest.replace(self.manifest_path(digest))
            move(out, self.path(digest))
            sync(self.path(digest).parent)
        except OSError:
            self.remove(digest)
            raise
        self.path(digest).chmod(0o555)
        return True

    def remove(self, digest: str) -> None:
        """Remove an object that no entry refers to."""
        if self.path(digest).exists():
            discard(self.path(digest), self.work)
        self.manifest_path(digest).unlink(missing_ok=True)

    def set_aside(self, digest: str) -> Path | None:
        """Move a damaged object to a folder of its own in quarantine; gives that folder, if there was anything."""
        if not self.path(digest).exists():
            self.manifest_path(digest).unlink(missing_ok=True)
            return None
        aside = self.quarantine / f"{digest}-{secrets.token_hex(4)}"
        aside.mkdir()
        move(self.path(digest), aside / "files")
        if self.manifest_path(digest).exists():
            move(self.manifest_path(digest), aside / "manifest.json")
        return aside

    def damage(self, digest: str, thorough: bool = False, read: Read = lambda _: None) -> str | None:
        """What is wrong with the object, or None.

        Compares names, sizes and times with the manifest, and reads only files whose time differs: milliseconds for
        an artifact of any size. `thorough` reads every file.
        """
        try:
            manifest = Manifest.model_validate_json(self.manifest_path(digest).read_bytes())
            if manifest.digest != digest:
                return "the manifest is damaged"
            return self._compare(digest, manifest, thorough, read)
        except (FileNotFoundError, NotADirectoryError):
            return "files are missing"
        except (ValidationError, StoreError) as error:
            return error.message if isinstance(error, StoreError) else "the manifest is damaged"
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return "the disk cannot read it"

    def _compare(self, digest: str, manifest: Manifest, thorough: bool, read: Read) -> str | None:
        found = scan(self.path(digest))
        if missing := manifest.files.keys() - found.keys():
            return f"{min(missing)}: missing"
        if added := found.keys() - manifest.files.keys():
            return f"{min(added)}: does not belong to the artifact"
        stale = {path for path, status in found.items() if status.st_mtime_ns != manifest.files[path].mtime_ns}
        fresh = dict(manifest.files)
        for path, facts in manifest.files.items():
            if found[path].st_size != facts.size:
                return f"{path}: {found[path].st_size:,} bytes instead of {facts.size:,}"
            if thorough or path in stale:
                fresh[path] = file_facts(self.path(digest) / path, read)
                if fresh[path].sha256 != facts.sha256:
                    return f"{path}: its contents changed"
        if stale:
            self._rewrite(digest, fresh)
        return None

    def _rewrite(self, digest: str, files: dict[str, FileFacts]) -> None:
        """Note the files' new times (a store that was copied), so that they need not be read again."""
        with suppress(OSError), claimed(self.work) as temporary:
            put(write_synced(temporary, Manifest(files=files).model_dump_json()), self.manifest_path(digest))


def seal(out: Path, scratch: Path) -> Manifest:
    """Hash a finished folder, make its files read-only and write them through to the disk."""
    for path, status in scan(out).items():
        if status.st_nlink > 1:
            _own(out / path, scratch)
    manifest = manifest_of(out)
    make_read_only(out)
    sync_tree(out)
    return manifest


def _own(path: Path, scratch: Path) -> None:
    """Replace a hard link by a copy: whoever has the other name could change the artifact through it."""
    copy = scratch / "copy"
    shutil.copy2(path, copy)
    copy.replace(path)


def size_of(path: Path) -> int:
    """Bytes of a file or of every file of a tree, or 0."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        return sum(Path(base, name).lstat().st_size for base, _, names in os.walk(path) for name in names)
    except FileNotFoundError:
        return 0
