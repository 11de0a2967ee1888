"""What an exit code and a log say of a worker's end."""

from __future__ import annotations

import signal
from pathlib import Path

from pipelines.errors import last_lines

MEMORY_SIGNS = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "DefaultCPUAllocator: not enough memory")


def explain(code: int, log: Path) -> str:
    """A phrase for the end of a process that left no answer; `code` is negative for a signal."""
    tail = "\n".join(last_lines(log, 40))
    if any(sign in tail for sign in MEMORY_SIGNS):
        return "ran out of memory"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL): most often the system had no memory left"
    if code < 0:
        return f"crashed: {_signal(-code)}"
    last = tail.rpartition("\n")[2]
    return f"failed: {last}" if last else f"ended with exit code {code} and said nothing"


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
