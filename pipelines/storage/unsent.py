"""What the shared store does not have yet, because it was away or this process was killed: an empty file a key."""

from __future__ import annotations

from pipelines.home import try_lock
from pipelines.storage.digest import key_of
from pipelines.storage.entries import Entry
from pipelines.storage.layout import Layout
from pipelines.storage.shared import Shared


class Unsent:
    """The keys that wait for one shared store; a later run sends what an earlier one could not."""

    def __init__(self, layout: Layout, shared: Shared) -> None:
        self._layout, self._shared = layout, shared
        self._folder = layout.root / "unsent" / key_of(shared.url)[:16]

    def note(self, key: str) -> None:
        """Remember a key before its artifact is published."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / key).touch()

    def send(self, entry: Entry) -> None:
        """Send what was just published, and after it what waits."""
        if not self._shared.send(entry, self._layout.root):
            return
        (self._folder / entry.key).unlink(missing_ok=True)
        for waiting in sorted(self._folder.iterdir()):
            older = self._layout.entries.read(waiting.name)
            if older and not self._shared.send(older, self._layout.root):
                return
            if older or not self._is_being_made(waiting.name):
                waiting.unlink(missing_ok=True)

    def _is_being_made(self, key: str) -> bool:
        """Whether another run may be about to publish it."""
        with try_lock(self._layout.locks / f"{key}.lock") as free:
            return not free
