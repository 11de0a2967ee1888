"""Where a stage runs and a session lives: in a worker inside its tool environment, or right here (tests)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from pipelines.environments import Environments
from pipelines.errors import InputRejected
from pipelines.evaluation.live import Live
from pipelines.evaluation.live_arrays import LiveArrays
from pipelines.process import Learning, WorkerProcess, ignore, write_request
from pipelines.progress import Bar, Progress
from pipelines.requests import Learnt, Moved, OpenRequest, RunRequest, produced
from stages._curve import Followed
from stages.base import Artifact, Produced, Refused, Stage, load, name_of
from targets.base import Target

CALL_LIMIT_S = 3600.0


class LiveSession(Protocol):
    """An open session, wherever it lives; see `pipelines.evaluation.live.Live` for the methods."""

    def call(self, method: str, **arguments: JsonValue) -> JsonValue:
        """Ask for something and wait for the answer."""
        ...


class Runner(Protocol):
    """Runs stages and opens sessions."""

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        """Run one stage; its result is in `request.out`. `learning` hears how a training goes."""
        ...

    def open(
        self, target: Target, artifact: Artifact, threads: int, context_length: int, log: Path
    ) -> AbstractContextManager[LiveSession]:
        """A live session for the length of the block."""
        ...

    def lock_digest(self, stage: Stage) -> str:
        """Digest of everything that the stage's tool environment is made of."""
        ...

    def versions(self, stage: Stage) -> dict[str, str]:
        """Versions of the stage's tools."""
        ...


class SubprocessRunner:
    """One worker a stage and one a session, each inside its tool environment."""

    def __init__(self, environments: Environments, progress: Progress) -> None:
        self._environments, self._progress = environments, progress

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        """Run one stage in a worker."""
        stage = load(request.stage).model_validate(request.fields)
        python = self._environments.python(stage.environment, self._progress)
        kept = write_request(request, log.with_name(f"{request.stage}.json"))
        with (
            WorkerProcess(python, "run", kept, log, request.threads) as worker,
            self._progress.bar(request.stage) as bar,
        ):
            return produced(worker.answer(timeout_s, _onto(bar), learning))

    @contextmanager
    def open(
        self, target: Target, artifact: Artifact, threads: int, context_length: int, log: Path
    ) -> Iterator[LiveSession]:
        """Open a session in a worker; it is gone at the end of the block."""
        python = self._environments.python(target.environment, self._progress)
        request = OpenRequest(
            stage=name_of(target),
            fields=target.model_dump(mode="json"),
            artifact=artifact,
            threads=threads,
            context_length=context_length,
        )
        kept = write_request(request, log.with_name(f"{log.stem.removeprefix('session-')}.json"))
        with WorkerProcess(python, "session", kept, log, threads) as worker:
            with self._progress.bar(f"{request.stage}: open"):
                facts = worker.answer(CALL_LIMIT_S)
            yield _RemoteSession(worker, request.stage, facts, self._progress)

    def lock_digest(self, stage: Stage) -> str:
        """Digest of the environment's lock file, Python and machine."""
        return self._environments.lock_digest(stage.environment)

    def versions(self, stage: Stage) -> dict[str, str]:
        """The lock file's pins."""
        return self._environments.versions(stage.environment)


class _RemoteSession:
    def __init__(self, worker: WorkerProcess, name: str, facts: JsonValue, progress: Progress) -> None:
        self._worker, self._name, self._facts, self._progress = worker, name, facts, progress

    def call(self, method: str, **arguments: JsonValue) -> JsonValue:
        if method == "facts":
            return self._facts
        if method not in {"encode", "score", "choose", "predict"}:
            return self._worker.call(method, arguments, CALL_LIMIT_S)
        with self._progress.bar(f"{self._name}: {method}") as bar:
            return self._worker.call(method, arguments, CALL_LIMIT_S, _onto(bar))


class InlineRunner:
    """Runs everything in this process: for unit tests with the `dummy` target."""

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        """Run one stage here."""
        del log, timeout_s
        context = Followed(
            request.out,
            request.scratch,
            request.seed,
            request.threads,
            request.inputs,
            outliving=request.outliving,
            curve=lambda step, values: learning(Learnt(step=step, values=dict(values))),
        )
        try:
            return load(request.stage).model_validate(request.fields).run(request.model, context)
        except Refused as error:
            raise InputRejected(f"`{request.stage}`: {error.message}", error.hint) from None

    @contextmanager
    def open(
        self, target: Target, artifact: Artifact, threads: int, context_length: int, log: Path
    ) -> Iterator[LiveSession]:
        """Open a session here."""
        del log
        yield _LocalSession(
            Live.opened(lambda: target.open(artifact, threads, context_length), threads, lambda *_: None)
        )

    def lock_digest(self, stage: Stage) -> str:
        """There is no environment."""
        return f"inline {stage.environment}"

    def versions(self, stage: Stage) -> dict[str, str]:
        """There are no tools."""
        del stage
        return {}


class _LocalSession:
    def __init__(self, live: Live | LiveArrays) -> None:
        self._live = live

    def call(self, method: str, **arguments: JsonValue) -> JsonValue:
        return self._live.facts() if method == "facts" else self._live.answer(method, arguments)


def _onto(bar: Bar) -> Callable[[Moved], None]:
    return lambda moved: bar.update(moved.done, moved.total, moved.what)
