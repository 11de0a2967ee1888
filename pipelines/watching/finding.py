"""Checkpoints in a folder: which are whole, and what their bytes are."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipelines.errors import SourceError
from pipelines.watching.content import FilesState, changed_ns, digest_of, marked_ns, state_of
from pipelines.watching.trigger import FolderTrigger


@dataclass(frozen=True)
class Found:
    """A whole checkpoint on this machine."""

    name: str
    path: Path
    digest: str


class Finder(Protocol):
    """Looks where checkpoints land."""

    def look(self) -> Iterator[Found]:
        """Every whole checkpoint that was not given before, the oldest first.

        Raises:
            SourceError: the place cannot be read now; the next look may succeed.
        """
        ...


@dataclass
class FolderFinder:
    """Entries of a folder. One is whole when its marker was written after it, or nothing of it changed for the quiet
    period.

    The quiet period is counted by this process's own clock from the last change it saw, and a marker stands for what
    it was first seen with: neither a clock that jumps nor a file time from another machine makes a half-written
    checkpoint whole.
    """

    trigger: FolderTrigger
    base: Path
    _changed: dict[str, tuple[FilesState, float]] = field(default_factory=dict)
    _given: dict[str, FilesState] = field(default_factory=dict)
    _marked: dict[str, tuple[FilesState, int]] = field(default_factory=dict)
    _stale: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where it looks."""
        return self.base / self.trigger.folder.expanduser()

    def look(self) -> Iterator[Found]:
        """Every whole checkpoint that was not given before in its present state."""
        try:
            entries = sorted(filter(self._is_candidate, self.folder.iterdir()), key=_age)
        except OSError as error:
            raise SourceError(f"{self.folder}: cannot be watched: {error.strerror}", "it is looked for again") from None
        unreadable: list[str] = []
        self._stale.clear()
        for entry in entries:
            try:
                marked = self._marked_ns(entry)  # before the rest: what is written by then is in the state
                state = state_of(entry)
                if not state or self._given.get(entry.name) == state or not self._is_whole(entry, state, marked):
                    continue
                digest = digest_of(entry, self.trigger.marker)
                if state_of(entry) != state:  # written to while it was read
                    continue
            except FileNotFoundError:  # gone or renamed meanwhile
                continue
            except OSError as error:  # one that cannot be read keeps no other from being found
                unreadable.append(f"{entry.name}: {error.strerror}")
                continue
            yield Found(entry.name, entry.absolute(), digest)
            self._given[entry.name] = state  # once it is remembered: a full disk gives it again
        self._complain(unreadable)

    def _complain(self, unreadable: list[str]) -> None:
        told = [f"cannot be read: {'; '.join(unreadable)}"] if unreadable else []
        if self._stale:
            told.append(f"changed after the marker was written, write it again: {', '.join(self._stale)}")
        if told:
            raise SourceError(f"{self.folder}: {'; '.join(told)}", "it is looked for again")

    def _is_candidate(self, entry: Path) -> bool:
        marker = self.trigger.marker
        is_marker = marker is not None and entry.is_file() and entry.name.endswith(marker)
        return entry.name[0] != "." and not is_marker and fnmatch.fnmatch(entry.name, self.trigger.pattern)

    def _marked_ns(self, entry: Path) -> int | None:
        return None if self.trigger.marker is None else marked_ns(entry, self.trigger.marker)

    def _is_whole(self, entry: Path, state: FilesState, marked: int | None) -> bool:
        if self.trigger.marker is None:
            return self._is_quiet(entry.name, state)
        if marked is None:
            return False
        its, used = self._marked.get(entry.name, ((), None))
        if (its, used) == (state, marked):  # even where it was linked or given other rights since
            return True
        changed = changed_ns(entry, self.trigger.marker)
        if changed < marked != used or changed == marked:  # a tick of the kernel's clock may hold last byte and marker
            self._marked[entry.name] = state, marked
            return True
        if self._is_quiet(entry.name, state):  # else its writer is at work
            self._stale.append(entry.name)
        return False

    def _is_quiet(self, name: str, state: FilesState) -> bool:
        seen, since = self._changed.get(name, (None, 0.0))
        if seen != state:
            self._changed[name] = state, time.monotonic()
            return self.trigger.quiet_s == 0
        return time.monotonic() - since >= self.trigger.quiet_s


def _age(entry: Path) -> tuple[int, str]:
    try:
        return entry.stat().st_mtime_ns, entry.name
    except OSError:  # a link that leads nowhere, or gone meanwhile
        return 0, entry.name
