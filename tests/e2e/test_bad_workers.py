"""A worker that hangs, runs out of memory or crashes: exit 3, the log, the command that repeats the step alone."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from program import ALONE, Ended, Program, written

from bench._processes import TAPEOUT, started_by

STEPS: list[Any] = ["import_gguf", "gguf"]
WORKER_LIMIT_S = 60


def failed(program: Program, ended: Ended, published: list[str]) -> str:
    assert (ended.code, ended.out) == (3, "")
    assert program.published() == published
    assert program.leftovers() == []
    message = ended.err.strip()
    assert f"the whole log: {program.home}/runs/" in message
    assert "the step alone: " in message
    return message


def config(folder: Path, model: Path, **limits: float) -> Path:
    return written(folder / "config.yaml", {"path": str(model)}, [{"import_gguf": {}, **limits}, "gguf"])


def test_worker_that_takes_too_long_is_stopped(fresh: Program, smollm2: Path, tmp_path: Path) -> None:
    ended = fresh.run(config(tmp_path, smollm2, timeout_s=1.5))

    message = failed(fresh, ended, ["source"])
    assert message.startswith("`import_gguf` gave no answer within 1.5 s and was stopped")


def test_worker_that_runs_out_of_memory_is_told(fresh: Program, smollm2: Path, tmp_path: Path) -> None:
    ended = fresh.run(config(tmp_path, smollm2, memory_limit_gb=0.6))

    message = failed(fresh, ended, ["source"])
    assert message.startswith("`import_gguf` ran out of memory")


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL"), (signal.SIGABRT, "SIGABRT")],
    ids=["segfault", "killed", "aborted"],
)
def test_worker_that_crashes_is_told(
    fresh: Program, smollm2: Path, tmp_path: Path, number: signal.Signals, told: str
) -> None:
    command = [TAPEOUT, "run", config(tmp_path, smollm2), *ALONE, "--dist", fresh.dist]
    running = subprocess.Popen(
        command, env=fresh.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.kill(worker_of(fresh, running), number)
    out, err = running.communicate(timeout=120)

    assert told in failed(fresh, Ended(running.returncode, out, err), ["source"])


def test_interrupted_run_stops_its_worker_and_goes_on_later(fresh: Program, smollm2: Path, tmp_path: Path) -> None:
    path = config(tmp_path, smollm2)
    command = [TAPEOUT, "run", path, *ALONE, "--dist", fresh.dist]
    running = subprocess.Popen(
        command, env=fresh.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    worker_of(fresh, running)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)

    assert (running.returncode, out) == (130, "")
    assert "interrupted" in err
    assert fresh.published() == ["source"]
    assert fresh.leftovers() == []


def worker_of(program: Program, running: subprocess.Popen[str]) -> int:
    """Process id of the run's worker, once it has begun."""
    deadline = time.monotonic() + WORKER_LIMIT_S
    while time.monotonic() < deadline:
        workers = [pid for pid, line in started_by(program.home).items() if "-m pipelines.worker run" in line]
        if workers:
            time.sleep(1)  # past the interpreter's start
            return workers[0]
        assert running.poll() is None
        time.sleep(0.05)
    raise AssertionError("no worker began")
