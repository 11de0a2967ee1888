"""`python -m pipelines.fanout.child FOLDER`: runs the order that lies there as `tapeout run` would."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

from pipelines import mlflow_process
from pipelines.errors import Interrupted, TapeoutError
from pipelines.fanout.order import ENDED, ORDER, Ended, Order, Problem, found, left


def main() -> None:
    """Leave how it ended beside the order. What is no error of Tapeout's is a traceback in the log, and no answer."""
    signal.signal(signal.SIGTERM, interrupt)
    folder = Path(sys.argv[1])
    left(folder, ENDED, carried_out(found(folder, ORDER, Order)))


def carried_out(order: Order) -> Ended:
    """Run it to its end, whatever that is."""
    try:
        with mlflow_process.writer() if order.tracked else nullcontext() as writer:
            from pipelines.launch import Choices, launch

            outcome = launch(order.config, order.overrides, Choices(order.dist), writer)
    except TapeoutError as error:
        return Ended.early(error)
    except KeyboardInterrupt:
        return Ended.early(Interrupted("interrupted before its first stage"))
    return Ended(record=outcome.record, problem=Problem.of(outcome.error) if outcome.error else None)


def interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run the way ^C does: workers gone, store clean."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
