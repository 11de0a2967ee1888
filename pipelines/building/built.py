"""A built environment on disk: the marker that makes a folder one, and the lock that guards it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from stages.base import Frozen

MARKER = "tapeout-environment.json"


class Built(Frozen):
    """What the marker of a complete environment says."""

    digest: str
    seconds: float
    size_bytes: int
    versions: dict[str, str]


def built(folder: Path) -> Built | None:
    """The marker of a complete environment whose base interpreter still exists."""
    if not (folder / "bin" / "python").exists():
        return None
    try:
        return Built.model_validate_json((folder / MARKER).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def publish(folder: Path, facts: Built) -> None:
    """Make the folder an environment, in one step."""
    draft = folder / f"{MARKER}.new"
    draft.write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / MARKER)


def discard(folder: Path) -> None:
    """Remove the folder unless it is a complete environment."""
    if built(folder) is None:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove the folder; from the first moment on it is no environment."""
    (folder / MARKER).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def size_bytes(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] | None = None, *, wait: bool = True) -> Iterator[int]:
    """Hold the folder's lock; gives its descriptor.

    The lock's file is never removed: else one process could lock the removed file and another its successor.

    Raises:
        BlockingIOError: somebody else holds it and `wait` is False.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            _ = waiting and waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()
