"""Pruning: what was not used for long, and what no entry refers to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.errors import StoreError
from pipelines.home import try_lock
from pipelines.storage.entries import Entry
from pipelines.storage.layout import Layout
from pipelines.storage.objects import size_of
from pipelines.storage.work import discard, sweep
from stages.base import Frozen


class Policy(Frozen):
    """What goes: entries unused for so many days, then the least recently used ones that exceed `max_bytes`.

    `keep` names keys and digests that stay in any case, even if `max_bytes` is then exceeded.
    """

    older_than_days: float | None = None
    keep: frozenset[str] = frozenset()
    max_bytes: int | None = None

    def dropped(self, entries: list[Entry]) -> list[Entry]:
        """The entries that go."""
        old = [entry for entry in entries if self._is_old(entry) and not self._keeps(entry)]
        return old if self.max_bytes is None else old + self._exceeding(without(old, entries), self.max_bytes)

    def _is_old(self, entry: Entry) -> bool:
        return self.passed(datetime.fromisoformat(entry.used))

    def passed(self, used: datetime) -> bool:
        """Whether what was last used then is old."""
        return self.older_than_days is not None and used < datetime.now(UTC) - timedelta(days=self.older_than_days)

    def _exceeding(self, entries: list[Entry], max_bytes: int) -> list[Entry]:
        # Whole artifacts with all their keys: dropping one of two keys of an artifact frees nothing.
        artifacts = _least_used_first(entries)
        total = sum(keys[0].size_bytes for keys in artifacts)
        dropped: list[Entry] = []
        for keys in artifacts:
            if total > max_bytes and not any(map(self._keeps, keys)):
                total -= keys[0].size_bytes
                dropped += keys
        return dropped

    def _keeps(self, entry: Entry) -> bool:
        return entry.key in self.keep or entry.digest in self.keep


class Pruned(Frozen):
    """What a pruning removed, or in a dry run would remove. `bytes_freed` counts objects, quarantine and logs."""

    entries: tuple[Entry, ...]
    objects: tuple[str, ...]
    bytes_freed: int
    dry_run: bool = False


def prune(layout: Layout, policy: Policy, dry_run: bool) -> Pruned:
    """Drop entries by the policy, then every object, log and damaged object without an entry, and old begun work."""
    entries = layout.entries.all()
    dropped = policy.dropped(entries)
    left = without(dropped, entries)
    orphans = layout.objects.digests() - {entry.digest for entry in left}
    begun = [folder for folder in layout.resume.iterdir() if policy.passed(_last_written(folder))]
    litter = [*_logs_without(left, layout.logs), *layout.quarantine.iterdir(), *begun]
    freed = sum(map(layout.objects.size_bytes, orphans)) + sum(map(size_of, litter))
    if not dry_run:
        _clear(layout, dropped, orphans, litter)
    return Pruned(entries=tuple(dropped), objects=tuple(sorted(orphans)), bytes_freed=freed, dry_run=dry_run)


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Keep runs out for the length of the block.

    Raises:
        StoreError: a run uses the store.
    """
    with try_lock(layout.in_use_lock) as free:
        if not free:
            raise StoreError(
                f"{layout.root}: a run is using the store",
                "wait until it ends, or stop it, and prune again; a dry run is possible now",
            )
        yield


def _clear(layout: Layout, dropped: Iterable[Entry], orphans: Iterable[str], litter: Iterable[Path]) -> None:
    for entry in dropped:
        layout.entries.drop(entry.key)
    for digest in orphans:
        layout.objects.remove(digest)
    for path in litter:
        discard(path, layout.work)
    sweep(layout.work)
    for lock in list(layout.locks.iterdir()):
        with try_lock(lock) as free:
            if free:
                lock.unlink(missing_ok=True)


def without(dropped: list[Entry], entries: list[Entry]) -> list[Entry]:
    """The entries that are not dropped."""
    keys = {entry.key for entry in dropped}
    return [entry for entry in entries if entry.key not in keys]


def _least_used_first(entries: Iterable[Entry]) -> list[list[Entry]]:
    artifacts: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        artifacts[entry.digest].append(entry)
    return sorted(artifacts.values(), key=lambda keys: max(entry.used for entry in keys))


def _last_written(folder: Path) -> datetime:
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))), UTC)


def _logs_without(entries: Iterable[Entry], logs: Path) -> list[Path]:
    keys = {entry.key for entry in entries}
    return [log for log in logs.iterdir() if log.stem not in keys]
