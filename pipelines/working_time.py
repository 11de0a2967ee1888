"""What a step costs: the seconds in which it was worked on, without those in which its tools were installed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Aside(threading.local):
    seconds = 0.0


_aside = _Aside()


def worked_s() -> float:
    """A clock whose differences are seconds of this thread's work; it stands still in `aside`."""
    return time.monotonic() - _aside.seconds


@contextmanager
def aside() -> Iterator[None]:
    """What is done in here happens once on a machine, whichever step is the first to want it, and is no step's cost."""
    begin = worked_s()
    try:
        yield
    finally:
        _aside.seconds += worked_s() - begin
