"""Entries: what each cache key gave, one small JSON file a key."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from stages.base import Frozen, Table

logger = logging.getLogger(__name__)


class Entry(Frozen):
    """What a key gave: an artifact by its digest, and how it came about."""

    key: str
    kind: str
    digest: str
    stage: str
    parents: tuple[str, ...] = ()
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    seconds: float = 0.0
    size_bytes: int
    created: str = Field(description="UTC, ISO 8601")
    inputs: dict[str, JsonValue] = Field(default_factory=dict, description="what the key was made of")
    tool_versions: dict[str, str] = Field(default_factory=dict)
    log: str | None = Field(None, description="path within the store")
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    used: str = Field("", description="UTC, ISO 8601; known by the file's time")


class Entries:
    """The folder of entries. A file's time of change is when its entry was last used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the key's entry is, or would be."""
        return self.folder / f"{key}.json"

    def read(self, key: str) -> Entry | None:
        """The key's entry; one that cannot be read is dropped, for its step can be done again."""
        path = self.path(key)
        try:
            used = iso(path.stat().st_mtime)
            return Entry.model_validate_json(path.read_bytes()).model_copy(update={"used": used})
        except FileNotFoundError:
            return None
        except ValidationError:
            logger.warning("%s: not an entry of this version of Tapeout; dropped, its step will run again", path)
            self.drop(key)
            return None

    def all(self) -> list[Entry]:
        """Every entry, last used first."""
        found = [entry for path in self.folder.glob("*.json") if (entry := self.read(path.stem))]
        return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)

    def touch(self, key: str) -> None:
        """Note that the entry was used; a store that cannot be written, or a key just pruned, is no reason to fail."""
        with suppress(OSError):
            os.utime(self.path(key))

    def drop(self, key: str) -> None:
        """Forget what the key gave."""
        self.path(key).unlink(missing_ok=True)


def iso(seconds: float) -> str:
    """A time since the epoch as UTC, ISO 8601, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
