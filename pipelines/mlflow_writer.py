"""A process that reads a run as JSON lines and writes it to MLflow, which `pipelines/tracking/` imports for it alone.

Each line on standard output is what is known so far, and replaces the one before. An error of MLflow ends the
process with a traceback on standard error, which the orchestrator quotes: isolation instead of catching.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import IO

from pipelines.tracking import comparisons, runs, searches
from pipelines.tracking.connection import import_mlflow
from pipelines.tracking.lines import LINES, Closing, Comparing, Line, Opening, Searched, Searching, Tracked
from pipelines.tracking.reports import report_of_the_rest


def main() -> int:
    """Read a run from standard input, write it to MLflow."""
    answers = _own_stdout()
    lines: SimpleQueue[Line | None] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()

    def answer(tracked: Tracked) -> None:
        print(tracked.model_dump_json(), file=answers, flush=True)

    opening: Line | None = None
    try:
        import_mlflow()  # 1.7 s: while the orchestrator sets the run up, before it has anything to say
        opening = lines.get()
        _follow(opening, iter(lines.get, None), answer)
    except Exception:
        opening = opening or lines.get()
        if isinstance(opening, Opening):
            report_of_the_rest(opening.home, iter(lines.get, None))
        raise
    return 0


def _follow(opening: Line | None, lines: Iterator[Line], answer: Callable[[Tracked], None]) -> None:
    """The opening line says what the others are about."""
    if isinstance(opening, Opening):
        runs.follow(opening, lines, answer)
    elif isinstance(opening, Comparing):
        comparisons.compare(opening, answer)
    elif isinstance(opening, Searching):
        searches.follow(opening, lines, answer)


def _own_stdout() -> IO[str]:
    """Standard output for the answers alone: MLflow prints to it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _read(lines: SimpleQueue[Line | None]) -> None:
    """Take lines as they come, to the closing one: a full pipe would hold up the run while MLflow is imported."""
    try:
        for text in sys.stdin.buffer:
            lines.put(line := LINES.validate_json(text))
            if isinstance(line, Closing | Comparing | Searched):
                return
    finally:
        lines.put(None)


if __name__ == "__main__":
    code = main()
    gc.freeze()  # the interpreter looks for garbage once more before it ends: 0.8 s
    sys.exit(code)
