"""Tapeout's home folder, and the file locks by which processes share what is in it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import StoreError, UserError

WAY_OUT = "point TAPEOUT_HOME at a folder on a local disk that you can write"


def home() -> Path:
    """TAPEOUT_HOME, or ~/.tapeout; created on first use.

    Raises:
        UserError: the folder cannot be created or written.
    """
    try:
        folder = Path(os.environ.get("TAPEOUT_HOME") or "~/.tapeout").expanduser().absolute()
    except RuntimeError as error:
        raise UserError("there is no home directory for ~/.tapeout", WAY_OUT) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be Tapeout's home: {error.strerror}", WAY_OUT) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"{folder}: cannot be Tapeout's home: it cannot be written", WAY_OUT)
    return folder


@contextmanager
def locked(path: Path, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file for the length of the block; `waiting` is called once if another holder is in the way.

    The kernel gives the lock back when its holder dies, SIGKILL included. It is not reentrant: two open descriptors
    exclude each other, in one process as in two. A forked child that never execs keeps its parent's locks alive.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        descriptor = _take(path, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting:
            waiting()
        descriptor = _take(path, kind)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_lock(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Whether the lock was free; then it is held for the length of the block."""
    try:
        descriptor = _take(path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _take(path: Path, operation: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        taken = False
        try:
            fcntl.flock(descriptor, operation)
            # Whoever held the lock may have removed its file: a lock on a file without a name guards nothing.
            taken = _is_at(descriptor, path)
        except OSError as error:
            raise _unlockable(path, error) from error
        finally:
            if not taken:
                os.close(descriptor)
        if taken:
            return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _unlockable(path: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
        return StoreError(f"{path}: this filesystem has no file locks", WAY_OUT)
    return error
