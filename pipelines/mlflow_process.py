"""Starts the MLflow writer. Imports next to nothing, so that a run can start it before anything else."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class WriterProcess:
    """A live `pipelines.mlflow_writer`, which reads lines from its standard input until the closing one."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    used: bool = False

    def send(self, line: bytes) -> None:
        """One more line. A writer that is gone takes none: `last_words` say why."""
        assert self.process.stdin is not None
        self.used = True
        with suppress(BrokenPipeError):
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()

    def first_answer(self, limit_s: float) -> bytes:
        """The first line of its standard output; nothing if it is gone, or silent for that long."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], limit_s)
        return self.process.stdout.readline() if ready else b""

    def last_words(self) -> str:
        """The last line of its standard error, once it is gone."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the writer ended with exit code {self.process.returncode}"

    def leave(self) -> None:
        """Nothing more comes: unused it is killed, without a closing line it marks the run as killed."""
        if not self.used:
            self.process.kill()
            self.process.communicate()
        elif self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


@contextmanager
def writer() -> Iterator[WriterProcess]:
    """A writer for one run, which imports MLflow (1.7 s, 90 MB) at once."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.mlflow_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            start_new_session=True,  # ^C is the orchestrator's to report
        )
        writing = WriterProcess(process, errors)
        try:
            yield writing
        finally:
            writing.leave()


def database(home: Path) -> Path:
    """The embedded store that is used when MLFLOW_TRACKING_URI is not set."""
    return home / "mlflow" / "mlflow.db"
