"""Several runs side by side: a row a config."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipelines.comparing_runs import reference_of, result_of
from pipelines.measures import Metric
from pipelines.quantities import duration, size
from pipelines.records import RunRecord, StageRecord
from pipelines.reporting import display
from pipelines.reporting.compared import metrics_of, size_of, unmeasured_of, verdict_of
from pipelines.reporting.methods import method_of
from pipelines.reporting.table import batches, of_arrays, of_embeddings, tasks_of, text_columns, unmeasured

CHANGE, CHANGE_INTERVAL, INTERVAL = "change of ", "interval of change of ", "interval of "
Columns = list[tuple[str, str]]
"""A title, and the metric under it, or its change, or the interval of either."""
IMAGES = [
    ("accuracy", "accuracy_top1"), ("change", CHANGE + "accuracy_top1"), ("same top-1", "top1_agreement"),
]  # fmt: skip
EMBEDDINGS = [
    ("cosine", "cosine_agreement"), ("same neighbours", "rank_agreement"), ("recall", "recall"),
    ("change", CHANGE + "recall"),
]  # fmt: skip
STYLES = {"passed": "green", "halted": "bold red", "failed": "bold red", "interrupted": "yellow"}


def comparison_table(records: list[RunRecord]) -> Table:
    """Quality, speed, size, memory, cost and verdict of each run's last measured stage."""
    return _of_arrays(records) if of_arrays(records[0]) else _of_texts(records)


def notes(records: list[RunRecord]) -> list[Text]:
    """Below the table: of each run what could not be measured, and why."""
    stages = ((record.name, stage) for record in records if (stage := unmeasured_of(record)))
    return [Text.assemble(("note    ", "yellow"), f"{name}: {unmeasured(stage)}") for name, stage in stages]


def _of_arrays(records: list[RunRecord]) -> Table:
    table = _table()
    columns = columns_of(records)
    for number, title in enumerate(head(records, columns)):
        table.add_column(title, justify="left" if number == 0 else "right", overflow="fold")
    for record in records:
        table.add_row(*row(record, columns))
    return table


def _of_texts(records: list[RunRecord]) -> Table:
    table, columns = _table(leading=1), text_columns(_tasks(records))
    table.add_column("config\nmethod", overflow="fold", min_width=14)
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    table.add_column("bits a weight\non disk\nmemory", justify="right", no_wrap=True)
    table.add_column("made in\nverdict", no_wrap=True)
    reference = reference_of(records[0])
    if reference is not None and reference.report is not None:
        cells = [column.cell(reference.report) for column in columns]
        table.add_row(Text("the reference", "bold"), *cells, _weight(reference), Text("-", "dim"))
    for record in records:
        stage = result_of(record)
        report = stage.report if stage else None
        cells = [column.cell(report) if report else Text("-", "dim") for column in columns]
        name = Text.assemble((record.name, "bold"), (f"\n{method_of(record)}", "dim"))
        verdict = Text.assemble(f"{_made(record)}\n", (verdict_of(record), STYLES[record.status]))
        table.add_row(name, *cells, _weight(stage) if stage else Text("-", "dim"), verdict)
    return table


def _table(leading: int = 0) -> Table:
    return Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="dim", leading=leading
    )


def _weight(stage: StageRecord) -> Text:
    memory = stage.report.metrics.get("peak_memory_bytes") if stage.report else None
    return Text(f"{_bits(stage)}\n{size(stage.size_bytes)}\n{_cell(memory)}")


def head(records: list[RunRecord], columns: Columns) -> list[str]:
    """Titles of the flat table."""
    how = [] if of_arrays(records[0]) else ["method", "bits a weight"]
    return ["config", *how, *(title for title, _ in columns), "size", "memory", "made in", "verdict"]


def columns_of(records: list[RunRecord]) -> Columns:
    """What suits the models."""
    if not of_arrays(records[0]):
        return _text_titles(_tasks(records))
    at_each = [(f"b{number} p50", f"latency_p50_ms{suffix}") for number, suffix in batches(records[0])]
    quality = EMBEDDINGS if of_embeddings(records[0]) else IMAGES
    return [*quality, *at_each, *((f"b{number} x", f"speed_ratio{suffix}") for number, suffix in batches(records[0]))]


def _text_titles(tasks: dict[str, str]) -> Columns:
    return [
        ("perplexity", "perplexity"), ("95% interval", INTERVAL + "perplexity"), ("change", CHANGE + "perplexity"),
        ("its 95%", CHANGE_INTERVAL + "perplexity"), ("KL, nats", "kl_divergence"), ("top-1", "top1_agreement"),
        *((title, name) for name, title in tasks.items()), ("TTFT", "ttft_p50_ms"), ("TBT", "tbt_p50_ms"),
        ("prefill", "prefill_tokens_per_s"), ("decode", "decode_tokens_per_s"), ("speed-up", "speed_ratio"),
    ]  # fmt: skip


def row(record: RunRecord, columns: Columns) -> list[str]:
    """One run's cells, as `head` titles them."""
    stage, metrics, bytes_ = result_of(record), metrics_of(record), size_of(record)
    cells = [_shown(metrics, shown) or "-" for _, shown in columns]
    how = [] if of_arrays(record) else [method_of(record), _bits(stage) if stage else "-"]
    weighs = "-" if bytes_ is None else size(bytes_)
    memory = _cell(metrics.get("peak_memory_bytes"))
    return [record.name, *how, *cells, weighs, memory, _made(record), verdict_of(record)]


def _shown(metrics: Mapping[str, Metric], shown: str) -> str:
    for prefix, write in (
        (CHANGE_INTERVAL, display.change_interval), (INTERVAL, display.interval), (CHANGE, display.change),
        ("", display.value),
    ):  # fmt: skip
        if shown.startswith(prefix):
            metric = metrics.get(shown.removeprefix(prefix))
            return write(metric) if metric else ""
    return ""


def _tasks(records: list[RunRecord]) -> dict[str, str]:
    return {name: title for record in records for name, title in tasks_of(record).items()}


def _made(record: RunRecord) -> str:
    return duration(sum(stage.seconds for stage in record.stages))


def _bits(stage: StageRecord) -> str:
    return "-" if stage.bits_a_weight is None else f"{stage.bits_a_weight:.2f}"


def _cell(metric: Metric | None) -> str:
    return (display.value(metric) if metric else "") or "-"
