"""Start the stack, keep it up, take it down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.home import try_lock
from pipelines.stack.flow_runs import FlowRuns
from pipelines.stack.running import Running, announce, lock, withdraw
from pipelines.stack.service import POLL_S, START_LIMIT_S, Child, answers
from pipelines.stack.services import Places, mlflow_server, prefect_server, prefect_worker

LOOK_S, LONGEST_PAUSE_S = 0.5, 30.0
GRABS = 5


class AlreadyUp(Exception):
    """Another process holds the stack of this home."""


@contextmanager
def stack(places: Places, say: Callable[[str], None]) -> Iterator[tuple[Running, list[Child]]]:
    """The stack, well, for the length of the block.

    Raises:
        AlreadyUp: a stack is up in this home.
        ToolFailed: a service does not come up; quotes its log.
    """
    with held(places.home), ExitStack() as children:
        (places.home / "prefect").mkdir(parents=True, exist_ok=True)
        (places.home / "mlflow").mkdir(parents=True, exist_ok=True)
        prefect = children.enter_context(Child(prefect_server(places)))
        mlflow = children.enter_context(Child(mlflow_server(places)))
        say("starting the Prefect server and MLflow")
        _wait_for_a_core(prefect, mlflow)
        scratch = children.enter_context(TemporaryDirectory(prefix="tapeout-up-", ignore_cleanup_errors=True))
        worker = children.enter_context(Child(prefect_worker(places, Path(scratch))))
        for child in (prefect, mlflow, worker):
            child.wait_until_well()
        running = places.running(os.getpid())
        announce(places.home, running)
        children.callback(withdraw, places.home)
        started = [prefect, mlflow, worker]
        try:
            yield running, started
        finally:
            for child in reversed(started):
                child.ask_to_stop()


def _wait_for_a_core(*starting: Child) -> None:
    """Return when one of them has come up, ended or hangs: on two cores a third process would only delay them."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and not any(child.well or child.exit_code is not None for child in starting):
        time.sleep(POLL_S)


@contextmanager
def held(home: Path) -> Iterator[None]:
    """The lock of the home's stack. Whoever only looks holds it for a moment, so one refusal is not the last word."""
    for _ in range(GRABS):
        with try_lock(lock(home)) as free:
            if free:
                yield
                return
        time.sleep(LOOK_S / GRABS)
    raise AlreadyUp


def keep_up(children: list[Child], runs: FlowRuns, say: Callable[[str], None]) -> None:
    """Start anew whatever ends, until interrupted; a service that ends again and again is given longer and longer."""
    pauses, due = dict.fromkeys(children, LOOK_S), dict[Child, float]()
    while True:
        time.sleep(LOOK_S)
        for child in children:
            if child.exit_code is not None and child not in due:
                say(f"{child.service.name} ended with {child.exit_code}, starting it again; log: {child.service.log}")
                due[child] = time.monotonic() + pauses[child]
                pauses[child] = min(2 * pauses[child], LONGEST_PAUSE_S)
            elif child in due and time.monotonic() >= due[child]:
                child.restart()
                del due[child]
                if child is children[-1]:
                    runs.worker_was_killed()
        for line in runs.settle():
            say(line)


def health(running: Running) -> dict[str, bool]:
    """Which of the services answer."""
    return {name: answers(url) for name, url in running.health.items()}
