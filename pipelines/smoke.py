"""A bundle served for a moment: its server is started, gives one completion, is stopped, and is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.building.tethered import RUN_COMMAND, TETHER
from pipelines.bundle import SCRIPT
from pipelines.errors import ToolFailed, UserError, last_lines
from pipelines.stack.ports import free_port
from pipelines.stack.service import answers
from stages.base import Frozen

PROMPT, TOKENS = "Once upon a time", 16
APIS = ("v1", "v3")
"""OpenVINO Model Server's API is v3, everybody else's is v1."""
START_LIMIT_S, ANSWER_LIMIT_S, STOP_LIMIT_S, POLL_S = 180.0, 120.0, 10.0, 0.1


class Served(Frozen):
    """How a bundle's server did."""

    api: str = Field(description="path of its API")
    model: str = Field(description="as the server names it")
    start_s: float = Field(description="from starting the script to the first answer")
    ttft_ms: float = Field(description="from sending the request to the first piece of text")
    completion_s: float = Field(description="to the last one")
    text: str = Field(description="what it made of the prompt")
    stop_s: float = Field(description="from asking it to stop to the end of its process group")

    def __str__(self) -> str:
        return (
            f"/{self.api} up after {self.start_s:.1f} s, first token after {self.ttft_ms:.0f} ms, "
            f"{TOKENS} tokens in {self.completion_s:.1f} s, stopped in {self.stop_s:.1f} s"
        )


def served(bundle: Path, log: Path, limit_s: float = START_LIMIT_S) -> Served:
    """Start the bundle's script on a free port of this machine, ask for one completion, stop it.

    Raises:
        UserError: the bundle has no script that serves it.
        ToolFailed: it did not start, did not answer, or did not stop; quotes its log.
    """
    script = bundle.absolute() / SCRIPT
    if not script.is_file():
        raise UserError(f"{bundle} has no {SCRIPT}", "bundles of GGUF, OpenVINO, ONNX and Hugging Face LLMs have one")
    port, begin = free_port(), time.monotonic()
    with _server(script, port, log) as process:
        api = _waited(process, port, log, limit_s)
        start_s = time.monotonic() - begin
        url = f"http://127.0.0.1:{port}/{api}"
        try:
            model = str(json.load(_opened(f"{url}/models"))["data"][0]["id"])
            ttft_s, completion_s, text = _completion(url, model)
        except (OSError, ValueError, LookupError) as error:
            raise _failure(f"did not complete `{PROMPT}`: {_told(error)}", log) from error
        if not text.strip():
            raise _failure("answered with an empty completion", log)
        stop_s = _stopped(process, log)
    return Served(
        api=api, model=model, start_s=start_s, ttft_ms=ttft_s * 1e3, completion_s=completion_s, text=text, stop_s=stop_s
    )


@contextmanager
def _server(script: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script in a process group of its own, which outlives neither this block nor this process."""
    tapeout = {"TAPEOUT": str(Path(sys.executable).with_name("tapeout"))}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", TETHER + RUN_COMMAND, str(script)],
            env={**tapeout, **os.environ, "PORT": str(port)},
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _gone(process.pid, STOP_LIMIT_S)
        if process.stdin:
            process.stdin.close()


def _waited(process: subprocess.Popen[bytes], port: int, log: Path, limit_s: float) -> str:
    """The API that answers."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for api in APIS:
            if answers(f"http://127.0.0.1:{port}/{api}/models"):
                return api
        if (code := process.poll()) is not None:
            raise _failure(f"ended with {code} before it answered", log)
        time.sleep(POLL_S)
    raise _failure(f"did not answer within {limit_s:g} s", log)


def _completion(url: str, model: str) -> tuple[float, float, str]:
    """Seconds to the first piece of text and to the last, and the text."""
    asked: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    first, text, begin = 0.0, "", time.monotonic()
    with _opened(f"{url}/completions", asked) as answer:
        for line in answer:
            data = line.decode().removeprefix("data:").strip() if line.startswith(b"data:") else ""
            if data and data != "[DONE]":
                choices = json.loads(data)["choices"]
                text += choices[0].get("text") or "" if choices else ""
                first = first or (time.monotonic() - begin if text else 0.0)
    return first, time.monotonic() - begin, text


def _opened(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(request, timeout=ANSWER_LIMIT_S)


def _stopped(process: subprocess.Popen[bytes], log: Path) -> float:
    """Seconds until the whole group was gone after SIGTERM."""
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
        if _gone(process.pid, STOP_LIMIT_S):
            return time.monotonic() - begin
    raise _failure(f"was still running {STOP_LIMIT_S:g} s after SIGTERM, and was killed", log)


def _gone(group: int, limit_s: float) -> bool:
    """Whether no process of the group is left, now or within the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(POLL_S / 5)
    return False


def _told(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}: {error.read(400).decode(errors='replace')}"
    return str(error) or type(error).__name__


def _failure(what: str, log: Path) -> ToolFailed:
    quoted = "\n".join(f"  | {line}" for line in last_lines(log))
    return ToolFailed(f"{SCRIPT} {what}\n{quoted}".rstrip(), f"the whole log: {log}", log)
