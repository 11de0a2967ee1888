"""The content-addressed store: what a step made, found again by its cache key (`pipelines/storage/layout.py`)."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pydantic import JsonValue

from pipelines.errors import ToolFailed, UserError
from pipelines.progress import Progress, Silent
from pipelines.storage.digest import Manifest, digest_of, key_of
from pipelines.storage.disk import put, sync, told_when_full, write_synced
from pipelines.storage.entries import Entry, iso
from pipelines.storage.health import Damage, heal, verify
from pipelines.storage.layout import Layout, Waiting
from pipelines.storage.objects import seal
from pipelines.storage.prune import Policy, Pruned, alone, prune
from pipelines.storage.shared import Shared
from pipelines.storage.unsent import Unsent
from pipelines.storage.work import WorkFolder, claimed, remove, sweep
from stages.base import Artifact, Table

__all__ = ["Damage", "Entry", "Pruned", "Store", "WorkFolder", "digest_of", "key_of"]

logger = logging.getLogger(__name__)


class Store:
    """A store at `root`, created on first use. Any number of processes may use it at the same time.

    With `shared`, what is not here is looked for there, and what is made here is sent there.
    """

    def __init__(self, root: Path, shared: Shared | None = None) -> None:
        self._layout, self._shared = Layout(root), shared
        self._unsent = Unsent(self._layout, shared) if shared else None
        self._entries, self._objects = self._layout.entries, self._layout.objects
        self.root = self._layout.root

    def get(self, key: str) -> Entry | None:
        """The key's entry if its artifact is there and passes the quick check.

        A damaged artifact is moved to quarantine with a warning and counts as a miss. Takes milliseconds for an
        artifact of any size; only files with a changed time are read. Marks the entry as used.
        """
        entry = self._entries.read(key)
        if entry and self._objects.damage(entry.digest) and (damage := heal(self._layout, entry.digest)):
            moved = f"; moved to {damage.moved}" if damage.moved else ""
            what = f"artifact {entry.digest[:16]} of {entry.stage}: {damage.message}"
            logger.warning("%s%s; its step will run again", what, moved)
            return None
        if entry:
            self._entries.touch(key)
        return entry

    def receive(self, key: str) -> Entry | None:
        """The key's entry out of the shared store, its artifact now here too; None if it is not there, or damaged."""
        if self._shared is None:
            return None
        with self.work() as work, self._staging() as staging:
            log = staging / "log"
            entry = self._shared.fetch(key, work.out, log)
            if entry is None:
                return None
            manifest = seal(work.out, staging)
            if entry.key != key or manifest.digest != entry.digest:
                logger.warning("%s of %s: damaged in the shared store; its step will run again", key[:16], entry.stage)
                self._shared.forget(key, entry.digest)
                return None
            self._keep(
                entry.model_copy(update={"log": entry.log if log.exists() else None}), manifest, work.out, staging
            )
        return entry.model_copy(update={"used": iso(time.time())})

    def artifact(self, entry: Entry) -> Artifact:
        """The entry's artifact, read-only at its place in the store."""
        path = self._objects.path(entry.digest)
        return Artifact(kind=entry.kind, path=path, digest=entry.digest, parents=entry.parents, facts=entry.facts)

    def folder(self, digest: str) -> Path:
        """Where the artifact of that digest lies, if it is there."""
        return self._objects.path(digest)

    def log(self, entry: Entry) -> Path | None:
        """The log of the step that made the entry, if it is there."""
        path = self.root / entry.log if entry.log else None
        return path if path and path.is_file() else None

    @contextmanager
    def work(self, key: str | None = None) -> Iterator[WorkFolder]:
        """A fresh work folder for the length of the block; no pruning meanwhile.

        With a key, whose lock is held, it knows where the key's work outlives a kill.

        Raises:
            StoreError: the disk is full, whether the store or the block ran into it.
        """
        with self.in_use(), self._staging() as path:
            work = WorkFolder(path=path, outliving=self._layout.resume / key if key else None)
            work.out.mkdir()
            work.scratch.mkdir()
            yield work

    def sweep(self) -> int:
        """Remove the work folders of runs that were killed; how many there were."""
        return sweep(self._layout.work)

    def publish(
        self,
        key: str,
        out: Path,
        *,
        kind: str,
        stage: str,
        parents: tuple[str, ...] = (),
        facts: Mapping[str, JsonValue] | None = None,
        seconds: float = 0.0,
        inputs: Mapping[str, JsonValue] | None = None,
        tool_versions: Mapping[str, str] | None = None,
        log: Path | None = None,
        notes: tuple[str, ...] = (),
        tables: tuple[Table, ...] = (),
    ) -> Entry:
        """Make `out`, a folder inside a work folder, the artifact of `key`: whole or not at all. `out` is gone then.

        Raises:
            StoreError: the disk is full, or `out` holds what an artifact cannot; nothing is published.
            ToolFailed: `out` is empty.
        """
        with self._staging() as staging:
            manifest = seal(out, staging)
            if not manifest.files:
                raise ToolFailed(f"{stage}: ended without writing a file", log=log)
            entry = Entry(
                key=key,
                kind=kind,
                digest=manifest.digest,
                stage=stage,
                parents=parents,
                facts=dict(facts or {}),
                seconds=seconds,
                size_bytes=manifest.size_bytes,
                created=iso(time.time()),
                inputs=dict(inputs or {}),
                tool_versions=dict(tool_versions or {}),
                log=f"logs/{key}.log" if log else None,
                notes=notes,
                tables=tables,
            )
            if log:
                shutil.copyfile(log, staging / "log")
            if self._unsent:
                self._unsent.note(key)
            self._keep(entry, manifest, out, staging)
        for gone in (out, self._layout.resume / key):
            remove(gone)
        if self._unsent:
            self._unsent.send(entry)
        return entry.model_copy(update={"used": entry.created})

    def lock(self, key: str, waiting: Waiting | None = None) -> AbstractContextManager[None]:
        """Be the only one who makes the key's artifact; look with `get` again once inside."""
        return self._layout.key_lock(key, waiting)

    def in_use(self, waiting: Waiting | None = None) -> AbstractContextManager[None]:
        """Held by a run for its whole length: no artifact is pruned away under it."""
        return self._layout.in_use(waiting)

    def ls(self) -> list[Entry]:
        """Every entry, last used first."""
        return self._entries.all()

    def find(self, prefix: str) -> Entry:
        """The entry whose digest or key starts with the prefix; the last used one if several share the artifact.

        Raises:
            UserError: none does, or several artifacts do.
        """
        found = [e for e in self.ls() if prefix and (e.digest.startswith(prefix) or e.key.startswith(prefix))]
        if not found:
            raise UserError(f"no artifact starts with {prefix!r}", "`tapeout artifacts ls` lists them")
        if len({entry.digest for entry in found}) > 1:
            names = "".join(f"\n  {entry.digest[:16]}  {entry.stage}" for entry in found)
            raise UserError(f"{prefix!r} is the start of several artifacts:{names}", "give more of its characters")
        return found[0]

    def verify(self, prefix: str | None = None, progress: Progress | None = None) -> list[Damage]:
        """Read every byte of one artifact or of all. Damaged ones go to quarantine, so that their steps run again."""
        with self.in_use():
            digests = {self.find(prefix).digest} if prefix else {entry.digest for entry in self.ls()}
            everything = digests if prefix else digests | self._objects.complete()
            return verify(self._layout, everything, progress or Silent())

    def prune(
        self,
        older_than_days: float | None = None,
        keep: Iterable[str] = (),
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Drop the least recently used entries, then everything that no entry refers to.

        Raises:
            StoreError: a run uses the store.
        """
        policy = Policy(older_than_days=older_than_days, keep=frozenset(keep), max_bytes=max_bytes)
        with nullcontext() if dry_run else alone(self._layout):
            return prune(self._layout, policy, dry_run)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        # Told inside, before the removal gives room back, and outside, when there is not even room for the folder.
        with told_when_full(self.root), claimed(self._layout.work) as staging, told_when_full(self.root):
            staging.mkdir()
            yield staging

    def _keep(self, entry: Entry, manifest: Manifest, out: Path, staging: Path) -> None:
        # Everything that takes room is on the disk before the first rename.
        write_synced(staging / "manifest", manifest.model_dump_json())
        write_synced(staging / "entry", entry.model_dump_json(exclude={"used"}))
        if entry.log:
            sync(staging / "log")
        self._commit(entry, out, staging)

    def _commit(self, entry: Entry, out: Path, staging: Path) -> None:
        # The entry comes last: a kill in between leaves an object that no key refers to, which the next publish takes.
        with self._layout.object_lock(entry.digest):
            placed = self._objects.place(entry.digest, out, staging / "manifest")
            try:
                if entry.log:
                    (staging / "log").replace(self.root / entry.log)
                put(staging / "entry", self._entries.path(entry.key))
            except OSError:
                if placed:
                    self._objects.remove(entry.digest)
                raise
