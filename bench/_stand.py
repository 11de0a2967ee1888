"""A stack in a home of its own, a config with a watched folder, and what its users see of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench._processes import TAPEOUT, variables
from pipelines.stack.running import Running, running
from pipelines.watching.ledger import Checkpoint, Ledger

LIMIT_S, POLL_S = 600.0, 0.1
MARKER = ".done"
SETTLED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass(frozen=True)
class Stand:
    """A stack that is up. `folder` holds the config, the watched folder `landing` and the logs."""

    folder: Path
    home: Path
    stack: Running
    supervisor: int
    ready_s: float

    def __call__(self, *arguments: object) -> str:
        """The output of a `tapeout` command.

        Raises:
            SystemExit: it failed; quotes it.
        """
        command = [TAPEOUT, *map(str, arguments)]
        ended = subprocess.run(command, env=variables(self.home), capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def asked(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What Prefect's API answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.stack.api}/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def flow_runs(self) -> list[Any]:
        """In order of their start."""
        found: list[Any] = self.asked("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "limit": 200})
        return found

    def checkpoints(self, name: str) -> list[Checkpoint]:
        """What the watch knows of a config's."""
        return Ledger(self.home, name).all()


@contextmanager
def stand(folder: Path, home: Path, *arguments: str) -> Iterator[Stand]:
    """`tapeout up` in that home, with arguments, until the block ends."""
    begin = time.monotonic()
    with (folder / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [TAPEOUT, "up", *arguments], env=variables(home), stdout=log, stderr=log, start_new_session=True
        )
    try:
        found: Running | None = None
        while found is None:
            if process.poll() is not None or time.monotonic() - begin > LIMIT_S:
                raise SystemExit(f"tapeout up: {(folder / 'up.log').read_text()[-3000:]}")
            time.sleep(POLL_S)
            found = running(home)
        yield Stand(folder, home, found, process.pid, time.monotonic() - begin)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


@contextmanager
def watching(place: Stand, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tapeout watch` until the block ends."""
    with (place.folder / "watch.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "watch", str(config)],
            env=variables(place.home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def land(content: Path, landing: Path, name: str) -> float:
    """Copy a checkpoint and then its marker into the watched folder; the time at its last byte, seconds since 1970."""
    target = landing / name
    target.write_bytes(content.read_bytes())
    with target.open("rb") as file:
        os.fsync(file.fileno())
    (landing / (name + MARKER)).touch()
    return time.time()


def digits_config(folder: Path, name: str, steps: Sequence[Any]) -> Path:
    """A config of a classifier of digits that watches `landing`, with promotion by accuracy; as cheap as a run can be.

    Its own source is `model.onnx` beside it.
    """
    tree = {
        "name": name,
        "source": {"path": "model.onnx"},
        "steps": list(steps),
        "reference": "onnxruntime",
        "data": {
            "evaluation": {"digits": True},
            "calibration": {"held_out": 400},
            "preprocess": {"scale": 1 / 16},
        },
        "evaluation": {"latency": None},
        "budgets": [{"metric": "top1_agreement", "min": "90%"}],
        "promotion": {"metric": "accuracy_top1", "min_gain": 0, "never_worse": ["size_bytes"]},
        "trigger": {"folder": "landing", "marker": MARKER, "retry_after_s": 0},
        "threads": 1,
    }
    file = folder / f"{name}.yaml"
    text = f"# Handwritten digits, by day.\n{yaml.safe_dump(tree, sort_keys=False)}"
    file.write_text(text)
    (folder / "landing").mkdir(exist_ok=True)
    return file


def until(holds: Callable[[], bool], limit_s: float, what: str) -> None:
    """Return when it holds.

    Raises:
        SystemExit: it did not in time.
    """
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {limit_s:g} s")
        time.sleep(POLL_S)
