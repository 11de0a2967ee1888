"""python untaken_run.py FOLDER: a run that passes, whose promotion the registry does not answer; says what is missing.

A process of its own: Prefect keeps one writer of events a process, which would wait for an earlier test's server.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dummies import Bench
from tracks import Answering

from pipelines import flow
from pipelines.outcome import Ending
from pipelines.tracking.lines import UNANSWERED, Tracked


def main() -> None:
    folder, answer = Path(sys.argv[1]), Tracked(model_version="dummy/1", not_promoted=UNANSWERED)
    pipeline = Bench(folder).pipeline("promotion={metric: perplexity}", tracker=Answering(answer))
    ending = Ending(folder / "run", folder / "dist")
    ending.folder.mkdir()
    sys.stdout.write(flow.run(pipeline, ending).missing)


if __name__ == "__main__":
    main()
