"""Whether the machine does anything else: figures of speed that were taken beside other work mean little."""

from __future__ import annotations

import time
from pathlib import Path

STAT = Path("/proc/stat")
MOST_BUSY = 0.1
_IDLE, _IOWAIT = 3, 4


def busy_share(seconds: float = 2.0) -> float:
    """The share of all cores that is used while nothing of ours runs, 0..1."""
    before = _ticks()
    time.sleep(seconds)
    total, idle = (after - start for after, start in zip(_ticks(), before, strict=True))
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    fields = [int(each) for each in STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return sum(fields), fields[_IDLE] + fields[_IOWAIT]
