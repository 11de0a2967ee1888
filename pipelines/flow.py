"""The run as a Prefect flow: a task a stage, the stage table on the run's page, a state that says why it stopped."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError, UserError
from pipelines.outcome import Ending, Outcome, conclude, execute
from pipelines.pipeline import Pipeline
from pipelines.reporting.report import markdown
from pipelines.sources import SourceUnreachable
from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import prefect_variables, temporary_prefect_server
from pipelines.stack.taken import ends_as, let_go, take

T = TypeVar("T")
RETRY_DELAYS_S = [2.0, 8.0]


def run(pipeline: Pipeline, ending: Ending) -> Outcome:
    """Run the pipeline as a flow on the Prefect server of PREFECT_API_URL, or on a temporary one."""
    home = pipeline.workshop.home
    os.environ |= prefect_variables(home)
    if "PREFECT_API_URL" not in os.environ:
        serve_temporarily(home)
    return _run(pipeline, ending)


def serve_temporarily(home: Path) -> None:
    """Start a Prefect server for the rest of this process; it comes up while Prefect is imported here.

    Prefect's own outlives a killed run; this one does not. The address has to be known before the import, which reads
    the settings once for all: Prefect would start its own beside this one.

    Raises:
        ToolFailed: it does not come up.
    """
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    service = temporary_prefect_server(home, free_port())
    os.environ["PREFECT_API_URL"] = service.health.removesuffix("/health")
    child = Child(service)
    atexit.register(child.stop)  # before the import: Prefect sends its last events in handlers that run earlier
    _import_prefect()
    child.wait_until_well()


def _import_prefect() -> None:
    gc.disable()  # a sixth of the import's time
    import prefect.flows
    import prefect.tasks  # noqa: F401

    gc.enable()


def _run(pipeline: Pipeline, ending: Ending) -> Outcome:
    _import_prefect()
    import httpx
    from prefect import flow
    from prefect.runtime import flow_run

    home, told = pipeline.workshop.home, True
    runs: list[str] = []
    outcomes: list[Outcome] = []

    @flow(name="tapeout", flow_run_name=pipeline.loaded.config.name, validate_parameters=False)
    def tapeout() -> Any:
        runs.append(str(flow_run.id))
        take(home, runs[0])
        outcomes.append(inside_flow(pipeline, ending))
        return ends_as(home, runs[0], state_of(outcomes[0]))

    try:
        tapeout(return_state=True)
    except httpx.HTTPError as error:
        told = False
        if not outcomes:
            raise UserError(f"Prefect does not answer: {error}", "tapeout up, or run with --no-prefect") from error
        pipeline.workshop.progress.say(f"Prefect: does not answer: {error}; the run itself is not affected")
    finally:
        for run in runs:
            let_go(home, run, told=told)
    return outcomes[0]


def inside_flow(pipeline: Pipeline, ending: Ending) -> Outcome:
    """Run the pipeline as part of the flow that is running, and conclude it: a task a stage, and the table on its page.

    Concluded inside, because the flow's state says what the registry took. A server that went away meanwhile gets no
    table; the outcome stands.
    """
    import httpx
    from prefect.runtime import flow_run

    outcome = execute(pipeline, ending, _as_task, str(flow_run.id))
    with suppress(httpx.HTTPError):
        _publish_table(outcome)
    return conclude(outcome, pipeline, ending)


def state_of(outcome: Outcome) -> Any:
    """The state in which a flow ends."""
    from prefect.states import Completed

    promoted = outcome.record.promotion
    became = f"{promoted.decision}: {promoted.reason}" if promoted else outcome.missing
    message = "; ".join(filter(None, ["every budget passed", became]))
    return _failed(outcome) if outcome.error else Completed(message=message)


def _as_task(name: str, work: Callable[[], T], retries: int = 0) -> T:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    errors: list[TapeoutError] = []

    def attempt() -> T:
        try:
            return work()
        except TapeoutError as error:
            errors.append(error)
            raise

    wrapped = task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=RETRY_DELAYS_S[:retries],
        # only what a network may mend is tried again
        retry_condition_fn=lambda *_: isinstance(errors[-1] if errors else None, SourceUnreachable),
    )
    return wrapped(attempt)()


def _failed(outcome: Outcome) -> Any:
    from prefect.states import Cancelled, Failed

    message = outcome.record.message
    if isinstance(outcome.error, Interrupted):
        return Cancelled(message=message)
    name = "BudgetExceeded" if isinstance(outcome.error, BudgetExceeded) else "Failed"
    return Failed(name=name, message=message)


def _publish_table(outcome: Outcome) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(markdown(outcome.record), key="stages", description="every stage, measured")
