"""Work folders: where a running step writes, removed whatever happens to the run."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.home import locked, try_lock
from stages.base import Frozen

REMOVAL_ATTEMPTS = 8


class WorkFolder(Frozen):
    """A running step's own folder. `out` becomes the artifact, `scratch` is thrown away.

    `outliving` is the key's folder that a killed run leaves for the next one; it is made when somebody uses it.
    """

    path: Path
    outliving: Path | None = None

    @property
    def out(self) -> Path:
        """Empty at first."""
        return self.path / "out"

    @property
    def scratch(self) -> Path:
        """Empty at first."""
        return self.path / "scratch"


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """A path in `folder` that nobody else uses and nothing is at yet; what is there in the end is removed.

    The lock lies beside the path and is held first, so that `sweep` never meets a path whose owner has no lock yet.
    """
    path = folder / secrets.token_hex(8)
    lock = _lock_of(path)
    with locked(lock):
        try:
            yield path
        finally:
            remove(path)
            lock.unlink(missing_ok=True)


def discard(path: Path, folder: Path) -> None:
    """Remove a tree that others may look at: gone in one rename, then taken apart inside `folder`.

    Takes no lock, for that would be a new file on a disk that may be full; a `sweep` meanwhile only helps.
    """
    trash = folder / secrets.token_hex(8)
    move(path, trash)
    remove(trash)


def move(path: Path, to: Path) -> None:
    """Rename on one filesystem. A folder that its owner cannot write cannot be moved to another parent."""
    if path.is_dir():
        path.chmod(0o755)
    path.replace(to)


def sweep(folder: Path) -> int:
    """Remove the work folders whose owner is gone; how many there were."""
    names = sorted({entry.name.removesuffix(".lock") for entry in folder.iterdir()})
    return sum(_swept(folder / name) for name in names)


def remove(tree: Path) -> None:
    """Remove a file or a tree, read-only folders and trees that a dying process still writes into included."""
    for attempt in range(REMOVAL_ATTEMPTS):
        try:
            _remove_once(tree)
        except FileNotFoundError:
            continue
        except OSError:
            if attempt == REMOVAL_ATTEMPTS - 1:
                raise
            time.sleep(0.01 * 2**attempt)
        else:
            return


def _remove_once(tree: Path) -> None:
    if tree.is_dir() and not tree.is_symlink():
        _make_writable(tree)
        shutil.rmtree(tree)
    else:
        tree.unlink(missing_ok=True)


def _make_writable(tree: Path) -> None:
    tree.chmod(0o700)
    with os.scandir(tree) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        _make_writable(Path(folder))


def make_read_only(tree: Path) -> None:
    """Take every write permission below `tree`; the folder itself keeps its own, for a rename needs it."""
    with os.scandir(tree) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                make_read_only(path)
                path.chmod(0o555)
            else:
                path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o555 | 0o444)


def _swept(path: Path) -> bool:
    lock = _lock_of(path)
    with try_lock(lock) as free:
        if free:
            remove(path)
            lock.unlink(missing_ok=True)
    return free


def _lock_of(path: Path) -> Path:
    return path.parent / f"{path.name}.lock"
