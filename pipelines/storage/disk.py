"""Writing so that a crash leaves the old or the new, and saying what to do when the disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import StoreError


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" inside the block into a StoreError about the folder's filesystem."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space(folder) from error


def no_space(folder: Path) -> StoreError:
    """The error that says which filesystem is full, what is free on it, and the way out."""
    mount = folder.absolute()
    while not mount.is_mount():
        mount = mount.parent
    status = os.statvfs(mount)
    free = f"{status.f_bavail * status.f_frsize:,} bytes free"
    if status.f_files and not status.f_favail:
        free += ", no file left to create"
    return StoreError(
        f"no space left on {mount} ({free}), where the store is: {folder}",
        "free some: `tapeout artifacts prune --older-than 1`, or point TAPEOUT_HOME at a larger disk",
    )


def write_synced(path: Path, text: str) -> Path:
    """Write a new file through to the disk; gives its path back."""
    path.write_text(text, encoding="utf-8")
    sync(path)
    return path


def put(temporary: Path, path: Path) -> None:
    """Give a synced file its name for good."""
    temporary.replace(path)
    sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Write every file and folder through to the disk."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                sync_tree(Path(entry.path))
            else:
                sync(Path(entry.path))
    sync(folder)


def sync(path: Path) -> None:
    """Write a file or folder through to the disk; one that cannot be written to can be synced all the same."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
