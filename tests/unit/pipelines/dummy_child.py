"""`pipelines.fanout.child` over the dummy target. Two that are told to `meet` each wait for the other to have begun."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dummies import bigrams

from pipelines import plan
from pipelines.device import device_facts
from pipelines.fanout.child import interrupt
from pipelines.fanout.order import ENDED, ORDER, Ended, Order, Problem, found, left
from pipelines.home import home
from pipelines.outcome import Ending, conclude, execute
from pipelines.parsing import parse
from pipelines.pipeline import Pipeline
from pipelines.progress import Silent
from pipelines.runner import InlineRunner
from pipelines.store import Store
from pipelines.tracking.tracker import NullTracker
from pipelines.workshop import Around, T, Workshop

MEETING_LIMIT_S = 120


def main() -> None:
    signal.signal(signal.SIGTERM, interrupt)
    order = found(Path(sys.argv[1]), ORDER, Order)
    loaded = parse(order.config, order.overrides)
    sys.stderr.write(f"{order.name} begins\n")
    (order.folder / "begun").touch()
    store = Store(home() / "store")
    shop = Workshop(
        home(), store, InlineRunner(), NullTracker(), Silent(), device_facts(), order.folder, 1, fetching=bigrams
    )
    pipeline, ending = Pipeline(loaded, plan.check(loaded), shop), Ending(order.folder, order.dist)
    outcome = conclude(execute(pipeline, ending, meet(order)), pipeline, ending)
    left(
        order.folder,
        ENDED,
        Ended(record=outcome.record, problem=Problem.of(outcome.error) if outcome.error else None),
    )


def meet(order: Order) -> Around:
    def around(name: str, work: Callable[[], T], retries: int = 0) -> T:
        if name == "fetch" and order.name.startswith("meet"):
            deadline = time.monotonic() + MEETING_LIMIT_S
            while len(list(order.folder.parent.glob("*-meet*/begun"))) < 2:
                assert time.monotonic() < deadline, "nobody came"
                time.sleep(0.05)
        return work()

    return around


if __name__ == "__main__":
    main()
