"""The commit that the program itself stands at."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit(folder: Path) -> str | None:
    """The commit of the checkout at `folder`, with `-dirty` when files differ; None where there is none."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
