"""The one entry point that runs inside a tool environment: `python -m pipelines.worker run|session REQUEST.json`.

Answers go to standard output as JSON lines (`pipelines.requests`). Whatever a tool prints goes to standard error,
which the orchestrator keeps as the step's log. End of file on standard input means that the orchestrator is gone:
the worker then takes its whole process group with it. A third argument names an empty folder in which a person repeats
a step: nothing is read from standard input then.
"""

from __future__ import annotations

import errno
import math
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, JsonValue

from pipelines.evaluation.live import Live
from pipelines.requests import Answer, Call, Failure, Learnt, Moved, OpenRequest, RunRequest
from stages._curve import Followed
from stages.base import Refused, load
from targets.base import Target


def main(arguments: list[str]) -> int:
    """Serve one request file; 0 when it was answered, 1 when it failed."""
    mode, path, *elsewhere = arguments
    send = _channel()
    try:
        text = Path(path).read_text()
        calls = _listen() if not elsewhere else queue.Queue()
        if mode == "run":
            send(Answer(value=run(_placed(RunRequest.model_validate_json(text), elsewhere), send)))
        else:
            serve(OpenRequest.model_validate_json(text), calls, send)
    except Refused as error:
        send(Failure(cause="refused", text=error.message, hint=error.hint))
    except MemoryError:
        traceback.print_exc()
        send(Failure(cause="memory", text="no memory left"))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        send(Failure(cause="disk", text=str(error)))
    else:
        return 0
    return 1


def run(request: RunRequest, send: Callable[[BaseModel], None]) -> JsonValue:
    """Run the stage that the request names; its Produced as JSON."""
    limit(request.threads, request.memory_limit_gb)
    stage = load(request.stage).model_validate(request.fields)
    context = Followed(
        out=request.out,
        scratch=request.scratch,
        seed=request.seed,
        threads=request.threads,
        inputs=request.inputs,
        progress=lambda done, total, what: send(Moved(done=done, total=total, what=what)),
        outliving=request.outliving,
        curve=lambda step, values: send(learnt(step, values)),
    )
    return stage.run(request.model, context).model_dump(mode="json")


def learnt(step: int, values: Mapping[str, float]) -> Learnt:
    """What is a number of it: JSON knows no NaN."""
    return Learnt(step=step, values={name: value for name, value in values.items() if math.isfinite(value)})


def _placed(request: RunRequest, elsewhere: list[str]) -> RunRequest:
    """The request with its folders under another one: the run's own are gone when somebody repeats the step."""
    if not elsewhere:
        return request
    folders = {name: Path(elsewhere[0], name) for name in ("out", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    return request.model_copy(update={**folders, "outliving": None})


def serve(request: OpenRequest, calls: queue.Queue[str], send: Callable[[BaseModel], None]) -> None:
    """Open the artifact, answer with its facts, then answer calls until `close`."""
    limit(request.threads, request.memory_limit_gb)
    target = load(request.stage).model_validate(request.fields)
    if not isinstance(target, Target):
        raise Refused(f"`{request.stage}` is not a target")

    def moved(done: float, total: float, what: str) -> None:
        send(Moved(done=done, total=total, what=what))

    live = Live.opened(
        lambda: target.open(request.artifact, request.threads, request.context_length), request.threads, moved
    )
    send(Answer(value=live.facts()))
    while True:
        call = Call.model_validate_json(calls.get())
        send(Answer(value=live.answer(call.method, call.arguments)))
        if call.method == "close":
            return


def limit(threads: int, memory_gb: float | None) -> None:
    """Pin the process to as many cores as it has threads, and bound its private memory."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
    if memory_gb is not None:
        most = int(memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _channel() -> Callable[[BaseModel], None]:
    """Keep standard output for answers, and send everything that tools print to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: BaseModel) -> None:
        stream.write(message.model_dump_json() + "\n")
        stream.flush()

    return send


def _listen() -> queue.Queue[str]:
    calls: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            calls.put(line)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    return calls


def _die(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    _leave(1)


def _leave(code: int) -> None:
    sys.stderr.flush()
    os._exit(code)  # native libraries may hang or crash in their exit handlers; the answer is already sent


if __name__ == "__main__":
    sys.excepthook = _die
    _leave(main(sys.argv[1:]))
