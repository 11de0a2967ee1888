"""What of a run and its stages becomes which MLflow metric."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.measures import Report
from pipelines.records import RunRecord, StageRecord


def metrics(report: Report) -> Iterator[tuple[str, float]]:
    """Each metric's value, the bounds of its interval, and its change against the reference."""
    for name, metric in report.metrics.items():
        yield name, metric.value
        if metric.low != metric.high:
            yield f"{name}_low", metric.low
            yield f"{name}_high", metric.high
        if metric.change:
            yield f"{name}_change", metric.change.value
        if metric.relative:
            yield f"{name}_change_relative", metric.relative.value


def stage_metrics(record: StageRecord) -> dict[str, float]:
    """What was measured of a stage, and what it cost."""
    measured = dict(metrics(record.report)) if record.report else {}
    costs = {"seconds": record.seconds, "evaluation_seconds": record.evaluation_seconds}
    if record.bits_a_weight is not None:
        costs["bits_a_weight"] = record.bits_a_weight
    return {"size_bytes": float(record.size_bytes)} | costs | measured | _checked_predictions(record)


def _checked_predictions(record: StageRecord) -> dict[str, float]:
    """What the planner expected, what came, and how far off it was: pred_, meas_ and err_ of each figure."""
    found: dict[str, float] = {}
    for item in record.sighting.values if record.sighting else ():
        found |= {f"pred_{item.name}": item.predicted, f"meas_{item.name}": item.measured}
        found[f"err_{item.name}"] = item.error
    return found


def series(run: RunRecord) -> Iterator[tuple[str, float, int]]:
    """(name, value, stage index) of every measured stage, so that the last one, the deployable, is what a table shows.

    A metric that the last measured stage lacks is left out: an earlier stage's number would stand in its place.
    """
    measured = [record for record in run.stages if record.report]
    shown = stage_metrics(measured[-1]).keys() - {"seconds", "evaluation_seconds"} if measured else set()
    for record in measured:
        for name, value in stage_metrics(record).items():
            if name in shown:
                yield name, value, record.index
    yield "seconds", run.seconds, len(run.stages)
