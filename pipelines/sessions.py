"""The live sessions of a run, one for each artifact and target that opens it."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipelines.runner import LiveSession, Runner
from stages.base import Artifact, name_of
from targets.base import Target


@dataclass(frozen=True)
class Subject:
    """An artifact and the target that opens it."""

    artifact: Artifact
    target: Target

    @property
    def name(self) -> str:
        """Of its session and its log: two targets, or one with other fields, may open the same artifact."""
        fields = hashlib.sha256(self.target.model_dump_json().encode()).hexdigest()
        return f"{name_of(self.target)}-{self.artifact.digest[:12]}-{fields[:4]}"


@dataclass(frozen=True)
class _Opened:
    session: LiveSession
    stack: ExitStack
    context_length: int


class Sessions:
    """Opens on first use; whoever made it closes it."""

    def __init__(self, runner: Runner, threads: int, logs: Path) -> None:
        self._runner, self._threads, self._logs = runner, threads, logs
        self._open: dict[str, _Opened] = {}

    def of(self, subject: Subject, context_length: int) -> LiveSession:
        """The subject's session, opened anew if the one that is open takes shorter sequences."""
        name = subject.name
        if name in self._open and self._open[name].context_length < context_length:
            self.close(subject)
        if name not in self._open:
            stack, log = ExitStack(), self._logs / f"session-{name}.log"
            opened = self._runner.open(subject.target, subject.artifact, self._threads, context_length, log)
            self._open[name] = _Opened(stack.enter_context(opened), stack, context_length)
        return self._open[name].session

    def close(self, subject: Subject) -> None:
        """End the subject's session, if it has one, and give back its memory."""
        if subject.name in self._open:
            self._open.pop(subject.name).stack.close()

    def close_all(self) -> None:
        """End every session."""
        with ExitStack() as stack:
            for opened in self._open.values():
                stack.push(opened.stack)
        self._open.clear()
