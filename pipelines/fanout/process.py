"""The process of one config, as the worker that started it sees it: watched to its end, ended when that is asked for.

It is in a session of its own, so that ^C reaches it through this process alone, and tied to this one by its standard
input, so that it ends with it, whatever ends that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from pipelines.building.tethered import TETHER, run_module
from pipelines.errors import Interrupted, ToolFailed, last_lines
from pipelines.fanout.order import ENDED, KILL, LOG, STOP, Ended, Order, found
from stages.base import ROOT

POLL_S, PATIENCE_S = 0.2, 60.0
UNSTARTED = "interrupted before it was started"
WIDE = "400"
"""Columns of a log's lines, which rich would break at 80."""


def carry_out(order: Order) -> Ended:
    """Run the order's process to its end."""
    if (order.folder.parent / STOP).exists():
        return Ended.early(Interrupted(UNSTARTED))
    process = _start(order)
    try:
        _watch(process, order)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
    try:
        return found(order.folder, ENDED, Ended)
    except FileNotFoundError:
        return Ended.early(_without_answer(order, process.returncode))


def _start(order: Order) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (order.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", TETHER + run_module(order.module), str(order.folder)],
            cwd=order.cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": WIDE},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _watch(process: subprocess.Popen[bytes], order: Order) -> None:
    """Return when it has ended, or has not within a minute of being asked to."""
    asked_at = None
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return
        if asked_at is None and (order.folder.parent / STOP).exists():
            process.terminate()
            asked_at = time.monotonic()
        overdue = asked_at is not None and time.monotonic() > asked_at + PATIENCE_S
        if overdue or (order.folder.parent / KILL).exists():
            return


def _without_answer(order: Order, code: int) -> Interrupted | ToolFailed:
    if (order.folder.parent / STOP).exists():
        return Interrupted("interrupted; its process was killed before it could end by itself")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    log = order.folder / LOG
    quoted = "".join(f"\n  | {line}" for line in last_lines(log))
    return ToolFailed(f"the process of `{order.name}` {how}{quoted}", f"the whole log: {log}", log)
