"""python away_run.py FOLDER PID: a run whose Prefect server, PID, is killed before its first stage; says its status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dummies import Bench

from pipelines import flow
from pipelines.outcome import Ending
from pipelines.process import Learning, ignore
from pipelines.requests import RunRequest
from pipelines.runner import InlineRunner
from stages.base import Produced


class Disturbed(InlineRunner):
    """Something happens before each stage."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        self._before()
        return super().run(request, log, timeout_s, learning)


def main() -> None:
    folder, server = Path(sys.argv[1]), int(sys.argv[2])
    bench = Bench(folder)

    def away() -> None:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)

    pipeline, ending = bench.pipeline(runner=Disturbed(away)), Ending(folder / "run", folder / "dist")
    ending.folder.mkdir()
    outcome = flow.run(pipeline, ending)
    sys.stdout.write(outcome.record.status)


if __name__ == "__main__":
    main()
