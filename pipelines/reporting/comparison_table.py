"""Several runs side by side: a row a config."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.comparing_runs import result_of
from pipelines.measures import Metric
from pipelines.quantities import duration, size
from pipelines.records import RunRecord
from pipelines.reporting import display
from pipelines.reporting.table import batches, of_images

CHANGE = "change of "
Columns = list[tuple[str, str]]
"""A title, and the metric under it, or its change."""
TEXT = [
    ("perplexity", "perplexity"), ("change", CHANGE + "perplexity"), ("top-1", "top1_agreement"),
    ("KL", "kl_divergence"), ("TTFT", "ttft_p50_ms"), ("TBT", "tbt_p50_ms"), ("speed-up", "speed_ratio"),
]  # fmt: skip
IMAGES = [
    ("accuracy", "accuracy_top1"), ("change", CHANGE + "accuracy_top1"), ("same top-1", "top1_agreement"),
]  # fmt: skip


def comparison_table(records: list[RunRecord]) -> Table:
    """Quality, speed, size, memory, cost and verdict of each run's last measured stage."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    columns = columns_of(records[0])
    for number, title in enumerate(
        ["config", *(title for title, _ in columns), "size", "memory", "made in", "verdict"]
    ):
        table.add_column(title, justify="left" if number == 0 else "right", overflow="fold")
    for record in records:
        table.add_row(*row(record, columns))
    return table


def columns_of(record: RunRecord) -> Columns:
    """What suits the model."""
    if not of_images(record):
        return TEXT
    at_each = [(f"b{number} p50", f"latency_p50_ms{suffix}") for number, suffix in batches(record)]
    return [*IMAGES, *at_each, *((f"b{number} x", f"speed_ratio{suffix}") for number, suffix in batches(record))]


def row(record: RunRecord, columns: Columns) -> list[str]:
    """One run's cells."""
    stage = result_of(record)
    metrics = stage.report.metrics if stage and stage.report else {}
    cells = []
    for _, shown in columns:
        metric = metrics.get(shown.removeprefix(CHANGE))
        written = (
            "" if metric is None else display.change(metric) if shown.startswith(CHANGE) else display.value(metric)
        )
        cells.append(written or "-")
    made = duration(sum(stage.seconds for stage in record.stages))
    weighs = size(stage.size_bytes) if stage else "-"
    return [record.name, *cells, weighs, _cell(metrics.get("peak_memory_bytes"), change=False), made, record.status]


def _cell(metric: Metric | None, change: bool) -> str:
    if metric is None:
        return "-"
    return (display.change(metric) if change else display.value(metric)) or "-"
