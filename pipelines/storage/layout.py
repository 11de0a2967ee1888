"""Where things are in a store, and its locks.

objects/<d2>/<digest>/       an artifact's files, read-only
objects/<d2>/<digest>.json   its manifest: size, sha256 and time of every file
keys/<key>.json              what a key gave; last used when the file was last touched
logs/<key>.log               the log of the step that made it
work/<random>/               what is being made, its owner's lock beside it
resume/<key>/                what a killed run left for the next one of the same step; gone when it is published
unsent/<store>/<key>         what a shared store does not have yet
quarantine/                  damaged objects, until a pruning
locks/                       one process a key, one a digest
in-use.lock                  shared by runs; a pruning wants it alone
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pipelines.errors import StoreError
from pipelines.home import locked
from pipelines.storage.disk import told_when_full
from pipelines.storage.entries import Entries
from pipelines.storage.objects import Objects

Waiting = Callable[[], None]


class Layout:
    """The parts of the store at `root`, created when they are missing."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.work, self.locks, self.logs = self.root / "work", self.root / "locks", self.root / "logs"
        self.quarantine, self.in_use_lock = self.root / "quarantine", self.root / "in-use.lock"
        self.resume = self.root / "resume"
        self.objects = Objects(self.root / "objects", self.work, self.quarantine)
        self.entries = Entries(self.root / "keys")
        self._create()

    def key_lock(self, key: str, waiting: Waiting | None = None) -> AbstractContextManager[None]:
        """Held while the key's artifact is made."""
        return locked(self.locks / f"{key}.lock", waiting=waiting)

    def object_lock(self, digest: str) -> AbstractContextManager[None]:
        """Held while the object is placed or moved aside."""
        return locked(self.locks / f"object-{digest}.lock")

    def in_use(self, waiting: Waiting | None = None) -> AbstractContextManager[None]:
        """Held, together with others, while nothing may be pruned."""
        return locked(self.in_use_lock, shared=True, waiting=waiting)

    def _create(self) -> None:
        own = (self.work, self.locks, self.logs, self.resume, self.quarantine)
        folders = (self.objects.folder, self.entries.folder, *own)
        try:
            with told_when_full(self.root):
                for folder in folders:
                    folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be a store: {error.strerror}", "point TAPEOUT_HOME at a folder you can write"
            ) from error
