"""A worker process as the orchestrator sees it: its own process group, a log, a time limit, and a way to fail."""

from __future__ import annotations

import errno
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import BaseModel, JsonValue

from pipelines.errors import InputRejected, ToolFailed
from pipelines.failures import explain
from pipelines.requests import MESSAGES, Call, Failure, Learnt, Moved
from stages.base import ROOT

Progress = Callable[[Moved], None]
Learning = Callable[[Learnt], None]
READER_LIMIT_S = 5.0


def ignore(message: Moved | Learnt) -> None:
    """What nobody watches."""


class WorkerProcess:
    """One worker. Use it as a context manager: it never outlives the block."""

    def __init__(self, python: Path, mode: Literal["run", "session"], request: Path, log: Path, threads: int) -> None:
        self._request, self._log, self._name = request, log, request.stem
        self._command = [str(python), "-m", "pipelines.worker", mode, str(request)]
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process and process group of the worker."""
        return self._process.pid

    def call(
        self, method: str, arguments: dict[str, JsonValue], timeout_s: float, progress: Progress = ignore
    ) -> JsonValue:
        """Ask the open session for something and wait for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(Call(method=method, arguments=arguments).model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("is gone") from None
        return self.answer(timeout_s, progress)

    def answer(self, timeout_s: float, progress: Progress = ignore, learning: Learning = ignore) -> JsonValue:
        """The worker's next answer.

        Raises:
            InputRejected: the stage refused its input.
            OSError: the disk is full.
            ToolFailed: it crashed, ran out of memory, or gave no answer within the time limit.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._next(deadline, timeout_s)
            message = MESSAGES.validate_json(line)
            if isinstance(message, Moved):
                progress(message)
            elif isinstance(message, Learnt):
                learning(message)
            elif isinstance(message, Failure):
                raise self._failed(message)
            else:
                return message.value

    def kill(self) -> None:
        """End the worker and everything it started."""
        with suppress(ProcessLookupError, PermissionError):  # gone; macOS: "not permitted" for a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(READER_LIMIT_S)  # it reads to the end; a stream closed under it would raise there
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close(stream)

    def _next(self, deadline: float, timeout_s: float) -> str:
        try:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            self.kill()
            raise self._failure(f"gave no answer within {timeout_s:g} s and was stopped") from None
        if line is None:
            code = self._process.wait()
            raise self._failure(explain(code, self._log))
        return line

    def _failed(self, message: Failure) -> InputRejected | ToolFailed | OSError:
        if message.cause == "disk":
            return OSError(errno.ENOSPC, message.text)  # the store says which disk, and the way out
        if message.cause == "refused":
            return InputRejected(f"`{self._name}`: {message.text}", message.hint)
        return self._failure(f"ran out of memory: {message.text}")

    def _failure(self, what: str) -> ToolFailed:
        return ToolFailed.with_log(self._name, what, self._log, _repeat(self._command))

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)


def _repeat(command: list[str]) -> str:
    """The shell command that runs a step alone, or opens a session and closes it."""
    worker = shlex.join(command)
    if "session" in command:
        worker = f"""echo '{{"method": "close"}}' | {worker}"""
    else:
        worker += ' "$(mktemp -d)"'
    return f"cd {shlex.quote(str(ROOT))} && {worker}"


def environment(threads: int) -> dict[str, str]:
    """The user's environment, with the project on the path and thread counts pinned."""
    pinned = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    fixed = {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",  # a stage has its model on disk; a look-up on a hub would only hang
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**os.environ, **pinned, **fixed}


def write_request(request: BaseModel, path: Path) -> Path:
    """Keep the request beside the log, so that the step can be repeated alone."""
    path.write_text(request.model_dump_json(indent=1), encoding="utf-8")
    return path


def _close(stream: IO[str]) -> None:
    with suppress(BrokenPipeError):  # a call was still in the buffer
        stream.close()
