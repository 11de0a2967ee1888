"""A run on a checkpoint reads the bytes that the watch found, or ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.errors import SourceError
from pipelines.making import Recipe
from pipelines.origin import source_recipe
from pipelines.progress import Progress
from pipelines.store import WorkFolder
from pipelines.watching.content import digest_of
from pipelines.watching.source import source_of
from pipelines.watching.trigger import FolderTrigger
from stages.base import Produced


class Replaced(SourceError):
    """Other bytes lie where the checkpoint was found."""


@dataclass(frozen=True)
class Landed:
    """The checkpoint with this digest, and the config that has it for its source."""

    loaded: LoadedConfig
    digest: str

    def fetching(self, loaded: LoadedConfig, kind: str, progress: Progress) -> Recipe:
        """As any source is fetched, but of the checkpoint no other bytes than its own.

        A file is hashed as it is copied, by the `sha256` of its source; a folder once it was copied.
        """
        source = source_of(loaded.config)
        if source is None or source != source_of(self.loaded.config):
            return source_recipe(loaded, kind, progress)
        with self.unless_replaced():
            recipe = source_recipe(loaded, kind, progress)

        def make(work: WorkFolder) -> Produced:
            with self.unless_replaced():
                produced = recipe.make(work)
                if source.sha256 is None and self._digest_now() != self.digest:
                    raise SourceError(f"{self._path}: changed while it was being fetched", "let it land again")
                return produced

        return replace(recipe, make=make)

    @contextmanager
    def unless_replaced(self) -> Iterator[None]:
        """Of what fails in the block, tell if other bytes are the reason, or none.

        Raises:
            Replaced: other bytes are there.
            SourceError: it is gone.
        """
        try:
            yield
        except (SourceError, FileNotFoundError) as error:
            found = self._digest_now()
            if found is None:
                raise SourceError(f"{self._path}: gone before it was fetched", "let it land again") from error
            if found != self.digest:
                raise Replaced(
                    f"{self._path}: replaced while it was being fetched: it was {self.digest[:12]}, now {found[:12]}",
                    "what lies there now is a checkpoint of its own",
                ) from error
            raise

    @property
    def _path(self) -> Path:
        source = source_of(self.loaded.config)
        return self.loaded.folder / source.path.expanduser() if source else Path()

    def _digest_now(self) -> str | None:
        """None if it is gone, or a part of it while it is read."""
        trigger = self.loaded.config.trigger
        marker = trigger.marker if isinstance(trigger, FolderTrigger) else None
        try:
            return digest_of(self._path, marker) if self._path.exists() else None
        except OSError:
            return None
