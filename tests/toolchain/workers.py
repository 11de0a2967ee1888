"""Stages run as the orchestrator runs them, by a worker in a process of its own, and killed as a machine kills."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.requests import RunRequest
from stages.base import Artifact

LIMIT_S = 240


@contextmanager
def worker(
    folder: Path, stage: str, fields: dict[str, Any], model: Artifact, threads: int = 1, **inputs: Artifact
) -> Iterator[subprocess.Popen[str]]:
    """A worker at the step; `out` and `scratch` are new ones, what outlives a kill stays. Gone at the end, whole."""
    for name in ("out", "scratch"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    request = RunRequest(
        stage=stage, fields=fields, model=model, inputs=inputs, out=folder / "out", scratch=folder / "scratch",
        outliving=folder / "resume", threads=threads,
    )  # fmt: skip
    (folder / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-m", "pipelines.worker", "run", str(folder / "request.json")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, **pipes, stderr=log, text=True, start_new_session=True) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The worker's last message, once it has ended."""
    assert process.stdout
    last = json.loads([line for line in process.stdout if line.strip()][-1])
    process.wait(LIMIT_S)
    return last


def there(path: Path) -> None:
    """Wait for the file."""
    until = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def drawn_step(steps: int) -> int:
    """A step of that many, another at each call; a test that fails shows which."""
    seed = time.time_ns()
    step = random.Random(seed).randint(1, steps)
    print(f"killed once step {step} is heard of (seed {seed})")  # noqa: T201  shown where the test fails
    return step


def killed_at(process: subprocess.Popen[str], step: int) -> None:
    """SIGKILL to the worker and all that it started as soon as it tells of the step's loss, wherever it is by then."""
    assert process.stdout
    for line in process.stdout:
        message = json.loads(line)
        if message["message"] == "learnt" and message["step"] >= step:
            break
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(LIMIT_S) == -signal.SIGKILL
