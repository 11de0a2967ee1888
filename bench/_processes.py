"""Whole processes: timed, watched for their memory, found again when they should be gone; and a Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.stack.ports import free_port
from stages.base import ROOT

BIN = Path(sys.executable).parent
TAPEOUT = str(BIN / "tapeout")
WATCH_S = 0.1
SERVER_LIMIT_S = 120


@dataclass(frozen=True)
class Ran:
    """A process that ended. `peaks` holds the most resident bytes by role: main, mlflow writer, worker, other."""

    seconds: float
    code: int
    output: str
    peaks: dict[str, int] = field(default_factory=dict)

    def checked(self) -> Ran:
        """Itself.

        Raises:
            SystemExit: the process failed; shows the end of what it printed.
        """
        if self.code:
            raise SystemExit(f"exit code {self.code}:\n{self.output[-4000:]}")
        return self


def run(command: Sequence[str], variables: Mapping[str, str], scratch: Path) -> Ran:
    """Run a command to its end; standard output and error go to a file in `scratch`."""
    log = scratch / "output.log"
    with log.open("wb") as sink:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=dict(variables), stdout=sink, stderr=subprocess.STDOUT)
        peaks: dict[str, int] = {}
        try:
            while True:
                _see(process.pid, peaks)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(WATCH_S)
                    break
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - begin
    return Ran(seconds, process.returncode, log.read_text(encoding="utf-8", errors="replace"), peaks)


def timed(command: Sequence[str], variables: Mapping[str, str]) -> float:
    """Seconds of a short command, to the microsecond: nothing watches it."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=dict(variables), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def variables(home: Path, **more: str) -> dict[str, str]:
    """The environment of a `tapeout run` in that home, whatever the user tracks with otherwise."""
    foreign = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "TAPEOUT_HOME")
    own = {name: value for name, value in os.environ.items() if name not in foreign}
    return {**own, "TAPEOUT_HOME": str(home), **more}


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A Prefect server on a free loopback port for the length of the block, its database in `folder`; its API's URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(f"{url}/health", process, folder / "server.log")
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def started_by(home: Path) -> dict[int, str]:
    """Every live process that runs with that home, by id, with its command line: environments are inherited."""
    wanted, found = f"TAPEOUT_HOME={home}\0".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes() + b"\0" and not _is_zombie(folder):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
    return found


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SERVER_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise SystemExit(f"the Prefect server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _see(pid: int, peaks: dict[str, int]) -> None:
    """Raise the peaks to what the process and everything below it have come to."""
    for process, role in [(pid, "main"), *((child, _role(child)) for child in _below(pid))]:
        peaks[role] = max(peaks.get(role, 0), _peak_bytes(process))


def _below(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, file.read_text().split()):
                found += [child, *_below(child)]
    return found


def _role(pid: int) -> str:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        for module, role in ((b"pipelines.mlflow_writer", "mlflow writer"), (b"pipelines.worker", "worker")):
            if module in command:
                return role
    return "other"


def _peak_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _is_zombie(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
