"""The comparison as a Prefect flow: a task a config, on threads, Dask or Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines import flow as run_flow
from pipelines.errors import Interrupted
from pipelines.fanout.order import ENDED, KILL, ORDER, STOP, Ended, Order, found, left
from pipelines.fanout.process import UNSTARTED, carry_out
from pipelines.fanout.workers import Fanning
from pipelines.stack.services import prefect_variables


def fan_out(home: Path, orders: Sequence[Order], fanning: Fanning) -> list[Ended]:
    """Run the orders, so many at once, on the Prefect server of PREFECT_API_URL or on a temporary one.

    ^C, or SIGTERM, ends all of them the way it ends a run; another one kills them.
    """
    os.environ |= prefect_variables(home) | {"RAY_USAGE_STATS_ENABLED": "0"}
    if "PREFECT_API_URL" not in os.environ:
        run_flow.serve_temporarily(home)
    for order in orders:
        order.folder.mkdir(parents=True)
        left(order.folder, ORDER, order)
    _flow_of(orders, fanning)(return_state=True)
    return [_ended(order) for order in orders]


def one(folder: str) -> Any:
    """Run the order that lies in the folder: what a worker of the task runner is given."""
    from prefect.states import Cancelled, Completed, Failed

    order = found(Path(folder), ORDER, Order)
    ended = carry_out(order)
    left(order.folder, ENDED, ended)
    if ended.problem is None:
        return Completed(message="every budget passed")
    kind = Cancelled if isinstance(ended.problem.error(), Interrupted) else Failed
    return kind(message=ended.problem.message)


def _flow_of(orders: Sequence[Order], fanning: Fanning) -> Any:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    handler = signal.getsignal(signal.SIGTERM)

    @flow(name="tapeout-compare", task_runner=_task_runner(fanning), validate_parameters=False)
    def compare() -> Any:
        signal.signal(signal.SIGTERM, handler)  # Ray has its own, which would end this process at once
        futures = []
        try:
            for order in orders:
                named = task(name=order.name, cache_policy=NO_CACHE, persist_result=False)
                futures.append(named(one).submit(str(order.folder)))
            _wait(futures)
        except KeyboardInterrupt:
            _stop(orders[0].folder.parent, futures)
        return _state([_ended(order) for order in orders])

    return compare


def _wait(futures: Sequence[Any]) -> None:
    for future in futures:
        future.wait()


def _stop(folder: Path, futures: Sequence[Any]) -> None:
    (folder / STOP).touch()
    try:
        _wait(futures)
    except KeyboardInterrupt:
        (folder / KILL).touch()
        _wait(futures)


def _ended(order: Order) -> Ended:
    try:
        return found(order.folder, ENDED, Ended)
    except FileNotFoundError:
        return Ended.early(Interrupted(UNSTARTED))


def _state(ends: Sequence[Ended]) -> Any:
    from prefect.states import Cancelled, Completed, Failed

    problems = [ended.problem for ended in ends if ended.problem]
    if any(isinstance(problem.error(), Interrupted) for problem in problems):
        return Cancelled(message="interrupted")
    if problems:
        return Failed(message=f"{len(problems)} of {len(ends)} configs did not pass: {problems[0].message}")
    return Completed(message=f"{len(ends)} configs passed")


def _task_runner(fanning: Fanning) -> Any:
    if fanning.runner == "dask":
        from prefect_dask import DaskTaskRunner

        # workers in this process: ^C would kill Dask's own before they stop their configs, which are processes anyway,
        # and whose memory Dask does not see
        cluster = {
            "n_workers": fanning.workers,
            "threads_per_worker": 1,
            "processes": False,
            "memory_limit": 0,
            "dashboard_address": None,
        }
        return DaskTaskRunner(cluster_kwargs=cluster)
    if fanning.runner == "ray":
        from prefect_ray import RayTaskRunner

        return RayTaskRunner(init_kwargs={"num_cpus": fanning.workers, "include_dashboard": False})
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=fanning.workers)
