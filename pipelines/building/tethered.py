"""Runs Python code in a process group of its own that cannot outlive this process, not even its SIGKILL."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# The child's standard input is a pipe that nobody writes to: it ends when this process does, however that happens,
# and the child then takes its whole group (pip, cmake, compilers) with it.
TETHER = """
import os, signal, threading
def _watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=_watch, daemon=True).start()
"""
RUN_MODULE = """
import runpy, sys
sys.argv[0] = {module!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
# SIGTERM is meant for the command: a handler, unlike SIG_IGN, is not handed on to it.
RUN_COMMAND = """
import subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: None)
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""
KEPT_LINES = 400
IDLE_S = 0.5


class Watch(Protocol):
    """Who follows the output."""

    def see(self, text: str | None) -> None:
        """One line of output, or None when nothing was printed for a while."""
        ...


@dataclass(frozen=True)
class Done:
    """How a process ended: its exit status, negative for a signal, and the last lines it printed."""

    status: int
    lines: list[str]


def run_module(module: str) -> str:
    """The code of `python -m module`."""
    return RUN_MODULE.format(module=module)


def run(
    python: Path,
    code: str,
    arguments: Sequence[str],
    log: Path,
    *,
    keep_open: int | None = None,
    variables: Mapping[str, str] | None = None,
    watch: Watch | None = None,
) -> Done:
    """Run code with an interpreter, without the user's PYTHONPATH, and append what it prints to the log.

    `keep_open` is a file descriptor that the process inherits. Any exception here, ^C included, kills the group.
    """
    command = [str(python), "-I", "-c", TETHER + code, *arguments]
    with log.open("ab") as sink, _group(command, keep_open, variables) as process:
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        for text in _lines(process):
            if text is not None:
                sink.write(text.encode() + b"\n")
                sink.flush()
                lines.append(text)
            if watch:
                watch.see(text)
        return Done(process.wait(), list(lines))


@contextmanager
def _group(
    command: Sequence[str], keep_open: int | None, variables: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        start_new_session=True,
        pass_fds=() if keep_open is None else (keep_open,),
    )
    try:
        yield process
    finally:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the group. The leader is waited for last, so that its id cannot have been given away."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Lines as they come; None for every half second without one."""
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    while True:
        if not select.select([descriptor], [], [], IDLE_S)[0]:
            yield None
            continue
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
