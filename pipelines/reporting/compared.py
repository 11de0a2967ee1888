"""What stands in a run's row of a comparison, where the last artifact could not be measured, too.

Engines for GPUs are made on machines that have none: quality is then that of the graph which the gate judged, time and
memory are nobody's, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.comparing_runs import result_of
from pipelines.measures import Metric, kind_of, of_quality
from pipelines.records import RunRecord, StageRecord


def unmeasured_of(record: RunRecord) -> StageRecord | None:
    """The last stage whose artifact was made and not measured."""
    return next((stage for stage in reversed(record.stages) if stage.unmeasured), None)


def metrics_of(record: RunRecord) -> Mapping[str, Metric]:
    """Of the last stage that was measured, as far as they are the result's."""
    stage = result_of(record)
    found = stage.report.metrics if stage and stage.report else {}
    if unmeasured_of(record):
        return {name: metric for name, metric in found.items() if (kind := kind_of(name)) and of_quality(kind)}
    return found


def size_of(record: RunRecord) -> int | None:
    """Bytes of the result."""
    stage = unmeasured_of(record) or result_of(record)
    return stage.size_bytes if stage else None


def verdict_of(record: RunRecord) -> str:
    """The run's status, and what of it was not measured."""
    stage = unmeasured_of(record)
    return f"{record.status}; {stage.stage} not measured" if stage else record.status
