"""When the watch looks: at once when something changes in a folder on this machine, else every second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.watching.trigger import FolderTrigger

LOOK_S = 1.0


def wake_ups(loaded: LoadedConfig) -> Iterator[None]:
    """Now and again every second, or at once when something changes in a watched folder on this machine."""
    from watchfiles import watch

    trigger = loaded.config.trigger
    folder = loaded.folder / trigger.folder.expanduser() if isinstance(trigger, FolderTrigger) else None
    yield
    while True:
        if folder is None or not _is_there(folder):
            pause()
            yield
            continue
        try:
            for _ in watch(
                folder,
                debounce=200,
                step=50,
                rust_timeout=int(LOOK_S * 1000),
                yield_on_timeout=True,
                raise_interrupt=True,
            ):
                yield
                if not _is_there(folder):
                    break
        except OSError:
            pause()
            yield


def pause() -> None:
    """Until the next look."""
    time.sleep(LOOK_S)


def _is_there(folder: Path) -> bool:
    """A folder above that may not be entered is as good as none: the look says why."""
    try:
        return folder.is_dir()
    except OSError:
        return False
