"""Copies of an artifact's files, to be written into: an artifact itself is read-only."""

from __future__ import annotations

import shutil
from pathlib import Path

WRITABLE = 0o755


def copy_files(source: Path, out: Path, ignored: tuple[str, ...] = ()) -> None:
    """Copy what is in the folder, whose names fit no pattern of `ignored`, into the folder `out`, without permissions.

    `shutil.copytree` gives `out` those of `source`: whoever is not root could write nothing more into it.
    """
    ignore = shutil.ignore_patterns(*ignored)
    shutil.copytree(source, out, dirs_exist_ok=True, ignore=ignore, copy_function=shutil.copyfile)
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        folder.chmod(WRITABLE)
