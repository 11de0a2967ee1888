"""The calls of MLflow's client that more than one kind of run needs, within MLflow's limits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 250
BATCH = 100


def clipped(longest: int, texts: Mapping[str, str]) -> dict[str, str]:
    """Texts by name, within the widths of MLflow's columns."""
    return {name[:LONGEST_NAME]: text[:longest] for name, text in texts.items()}


def create(
    client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str], started_ms: int | None = None
) -> str:
    """The id of a new run."""
    created = client.create_run(
        experiment, start_time=started_ms, run_name=name[:LONGEST_NAME], tags=clipped(LONGEST_TAG, tags)
    )
    return str(created.info.run_id)


def at_step(metrics: Mapping[str, float], step: int = 0) -> Iterator[tuple[str, float, int]]:
    """Metrics by name as `log` takes them, all of one step."""
    return ((name, value, step) for name, value in metrics.items())


def log(
    client: MlflowClient,
    run_id: str,
    params: Mapping[str, str],
    metrics: Iterable[tuple[str, float, int]],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Metrics are (name, value, step); all in as few transactions as MLflow's limits allow."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    measured = [Metric(name, value, now, step) for name, value, step in metrics]
    chosen = [Param(*item) for item in clipped(LONGEST_PARAM, params).items()]
    told = [RunTag(*item) for item in clipped(LONGEST_TAG, tags).items()]
    for start in range(0, max(len(measured), len(chosen), len(told)), BATCH):
        part = slice(start, start + BATCH)
        client.log_batch(run_id, metrics=measured[part], params=chosen[part], tags=told[part])
