"""One server as a child process that cannot outlive this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.building.tethered import TETHER, run_module
from pipelines.errors import ToolFailed, last_lines

START_LIMIT_S, STOP_LIMIT_S, ANSWER_LIMIT_S, POLL_S = 300.0, 10.0, 5.0, 0.1
COLLECT_LATER = "import gc; gc.disable(); later = threading.Timer(20, gc.enable); later.daemon = True; later.start()\n"
"""Importing a server makes no garbage, and looking for it takes a sixth of the time."""


# What takes seconds to import and cannot work alone imports while the other comes up.
READY_AHEAD = """
import importlib, time
from pipelines.stack.service import answers
importlib.import_module({ahead!r})
while not answers({needed!r}):
    time.sleep({poll_s})
"""


@dataclass(frozen=True)
class Need:
    """What has to answer before a service begins, and the module that it imports until then."""

    health: str
    ahead: str


@dataclass(frozen=True)
class Service:
    """What is started: `python -m module arguments`, well when `health` answers."""

    name: str
    module: str
    arguments: tuple[str, ...]
    health: str
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    need: Need | None = None

    @property
    def code(self) -> str:
        """What its interpreter is given."""
        need = self.need
        ready = READY_AHEAD.format(ahead=need.ahead, needed=need.health, poll_s=POLL_S) if need else ""
        return TETHER + COLLECT_LATER + ready + run_module(self.module)


class Child:
    """A service's process and its group. Use it as a context manager: the group never outlives the block."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._process = self._start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process and process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def wait_until_well(self, limit_s: float = START_LIMIT_S) -> None:
        """Return when the health address answers.

        Raises:
            ToolFailed: the process ended, or the time is up; quotes its log.
        """
        deadline = time.monotonic() + limit_s
        while not self.well:
            if self.exit_code is not None:
                raise self._failure(f"ended with {self.exit_code} before it answered")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {limit_s:g} s")
            time.sleep(POLL_S)

    @property
    def well(self) -> bool:
        """Whether the health address answers now."""
        return answers(self.service.health)

    def restart(self) -> None:
        """Start it anew after it ended; what is left of its group goes first."""
        self.stop()
        self._process = self._start()

    def ask_to_stop(self) -> None:
        """SIGTERM; `stop` waits."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """End the process and its group: first asked, then killed."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self.service.log.parent.mkdir(parents=True, exist_ok=True)
        with self.service.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", self.service.code, *self.service.arguments],
                env={**os.environ, **self.service.variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _failure(self, what: str) -> ToolFailed:
        quoted = "\n".join(f"  | {line}" for line in last_lines(self.service.log))
        log = self.service.log
        return ToolFailed(f"{self.service.name} {what}\n{quoted}".rstrip(), f"the whole log: {log}", log)


def answers(url: str) -> bool:
    """Whether a GET of the address is answered with success within five seconds."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a proxy cannot reach this machine's loopback
    try:
        with opener.open(url, timeout=ANSWER_LIMIT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
