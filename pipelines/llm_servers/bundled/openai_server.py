"""An OpenAI-compatible server for one model, of the standard library alone: completions and chat, streamed or not.

One answer is made at a time; what is asked meanwhile waits. For many users at once take the engine's own server.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

LONGEST_BODY = 10_000_000
COMPLETION_TOKENS = 16  # OpenAI's own default; a chat goes on to its end


class Bad(Exception):
    """The request cannot be answered as it is."""


class Settings(NamedTuple):
    """How an answer is drawn: `temperature` 0 takes the likeliest token, no `max_tokens` is while there is room."""

    max_tokens: int | None
    temperature: float
    top_p: float


class Usage(NamedTuple):
    """Tokens of prompt and answer, and whether the answer was cut at its greatest length."""

    prompt_tokens: int
    completion_tokens: int
    cut: bool


class Model(Protocol):
    """What is served."""

    def chat_prompt(self, messages: list[dict[str, str]]) -> str:
        """The conversation as a prompt, by the model's own chat template."""
        ...

    def generate(self, prompt: str, settings: Settings, emit: Callable[[str], bool]) -> Usage:
        """Hand every piece of text to `emit` until it answers False.

        Raises:
            Bad: the prompt does not fit into the model's context.
        """
        ...


class Request(NamedTuple):
    """A request, checked."""

    prompt: str
    settings: Settings
    stop: tuple[str, ...]
    stream: bool
    with_usage: bool


def parsed(body: bytes, chat: bool, model: Model) -> Request:
    """Check a request's JSON.

    Raises:
        Bad: it is not JSON, lacks its text, or asks for what is not here.
    """
    try:
        asked = json.loads(body)
        assert isinstance(asked, dict)
    except (ValueError, AssertionError):
        raise Bad("the body is no JSON object") from None
    if asked.get("n", 1) != 1 or asked.get("logprobs") or asked.get("tools"):
        raise Bad("`n` above 1, `logprobs` and `tools` are not supported")
    tokens = asked.get("max_completion_tokens", asked.get("max_tokens", None if chat else COMPLETION_TOKENS))
    if not (tokens is None or (isinstance(tokens, int) and tokens > 0)):
        raise Bad("`max_tokens` has to be a positive number")
    stop = asked.get("stop") or ()
    try:
        settings = Settings(tokens, float(asked.get("temperature") or 0), float(asked.get("top_p") or 1))
    except (TypeError, ValueError):
        raise Bad("`temperature` and `top_p` have to be numbers") from None
    prompt = model.chat_prompt(_messages(asked.get("messages"))) if chat else asked.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise Bad("`prompt` has to be one text")
    options = asked.get("stream_options") or {}
    stops = (stop,) if isinstance(stop, str) else tuple(map(str, stop))
    return Request(prompt, settings, stops, bool(asked.get("stream")), bool(options.get("include_usage")))


def _messages(given: Any) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise Bad("`messages` has to be a list of messages")
    return [{"role": str(each.get("role", "user")), "content": _text(each.get("content"))} for each in given]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


class Stopping:
    """Passes text on until a stop sequence; holds back what may be the beginning of one."""

    def __init__(self, stop: tuple[str, ...], send: Callable[[str], bool]) -> None:
        self._stop, self._send, self._held = tuple(filter(None, stop)), send, ""
        self.stopped = False

    def __call__(self, piece: str) -> bool:
        """Take one more piece; False when the answer is at its end."""
        self._held += piece
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, self._held[: min(found)]
            self.flush()
            return False
        kept = max(
            (size for stop in self._stop for size in range(1, len(stop)) if self._held.endswith(stop[:size])), default=0
        )
        ready, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return self._send(ready) if ready else True

    def flush(self) -> None:
        """Pass on what was held back."""
        if self._held:
            self._send(self._held)
        self._held = ""


class Server(ThreadingHTTPServer):
    """Answers for one model under one name."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], model: Model, name: str) -> None:
        super().__init__(address, Handler)
        self.model, self.name, self.turn = model, name, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        """Health and the one model's name."""
        if self.path in ("/health", "/v1/health"):
            self._reply(200, {"status": "ok"})
        elif self.path == "/v1/models":
            model = {"id": self.server.name, "object": "model", "owned_by": "local"}
            self._reply(200, {"object": "list", "data": [model]})
        else:
            self._fail(404, f"nothing is at {self.path}")

    def do_POST(self) -> None:
        """Completions."""
        chat = {"/v1/chat/completions": True, "/v1/completions": False}.get(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if chat is None or length > LONGEST_BODY:
            self._fail(404 if chat is None else 413, f"nothing is at {self.path}" if chat is None else "too long")
            return
        self._begun = False
        try:
            request = parsed(self.rfile.read(length), chat, self.server.model)
            with self.server.turn:
                self._stream(request, chat) if request.stream else self._whole(request, chat)
        except Bad as error:
            self._fail(400, str(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except RuntimeError as error:
            self._fail(500, str(error))

    def _whole(self, request: Request, chat: bool) -> None:
        pieces: list[str] = []

        def keep(piece: str) -> bool:
            pieces.append(piece)
            return True

        usage, reason = self._generate(request, keep)
        text = "".join(pieces)
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text, "logprobs": None}
        kind = "chat.completion" if chat else "text_completion"
        self._reply(200, self._named(kind, [{"index": 0, **said, "finish_reason": reason}]) | {"usage": told(usage)})

    def _stream(self, request: Request, chat: bool) -> None:
        kind, head = "chat.completion.chunk" if chat else "text_completion", self._named("", [])

        def send(choices: list[dict[str, Any]], **more: Any) -> bool:
            if not self._begun:  # a prompt that does not fit is refused with its own status
                self._head(200, "text/event-stream")
            self._event(json.dumps(head | {"object": kind, "choices": choices} | more))
            return True

        def said(piece: str, reason: str | None = None) -> bool:
            text: dict[str, Any] = {"delta": {"content": piece} if piece else {}} if chat else {"text": piece}
            return send([{"index": 0, **text, "finish_reason": reason}])

        usage, reason = self._generate(request, said)
        said("", reason)
        if request.with_usage:
            send([], usage=told(usage))
        self._event("[DONE]")

    def _generate(self, request: Request, send: Callable[[str], bool]) -> tuple[Usage, str]:
        emit = Stopping(request.stop, send)
        usage = self.server.model.generate(request.prompt, request.settings, emit)
        if not emit.stopped:
            emit.flush()
        return usage, "length" if usage.cut and not emit.stopped else "stop"

    def _named(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        made = {"id": f"cmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
        return made | {"model": self.server.name, "choices": choices}

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _fail(self, status: int, message: str) -> None:
        if not getattr(self, "_begun", False):
            kind = "invalid_request_error" if status < 500 else "server_error"
            self._reply(status, {"error": {"message": message, "type": kind}})

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json", len(data))
        self.wfile.write(data)

    def _head(self, status: int, kind: str, length: int | None = None) -> None:
        self._begun = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def told(usage: Usage) -> dict[str, int]:
    """Usage as the API has it."""
    prompt, made = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def main(folder: Path, opened: Callable[[Path, int], Model]) -> None:
    """Serve the model of the folder until SIGTERM or ^C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--name", default=folder.name, help="of the model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    server = Server((options.host, options.port), opened(folder, options.threads), options.name)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
