"""The progress of several configs at once: each whole line of their logs, behind the config's name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.fanout.order import LOG, Order

POLL_S = 0.5


@contextmanager
def followed(orders: Sequence[Order], say: Callable[[str], None]) -> Iterator[None]:
    """Say what the orders' logs gain during the block."""
    over = threading.Event()
    width = max(len(order.name) for order in orders)
    logs = [_Log(order.folder / LOG, order.name.ljust(width), say) for order in orders]

    def follow() -> None:
        while not over.wait(POLL_S):
            for log in logs:
                log.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for log in logs:
            log.look()


class _Log:
    def __init__(self, path: Path, name: str, say: Callable[[str], None]) -> None:
        self._path, self._name, self._say = path, name, say
        self._read = 0

    def look(self) -> None:
        """Say the whole lines that are new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        if not whole:
            return
        self._read += len(whole) + 1
        for line in whole.decode(errors="replace").splitlines():
            if line.strip():
                self._say(f"{self._name}  {line.rstrip()}")
