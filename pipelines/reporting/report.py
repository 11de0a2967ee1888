"""The report of a run, in Markdown and in HTML: the verdict first, then every number and how it was taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.measures import DeviceFacts, Metric
from pipelines.quantities import duration, size
from pipelines.records import DataRecord, RunRecord, StageRecord
from pipelines.redaction import redacted
from pipelines.reporting import display, page
from pipelines.reporting.drafting import drafting
from pipelines.reporting.page import Block, Code, Grid, Heading, Items, Paragraph, Picture
from pipelines.reporting.plots import Axis
from pipelines.reporting.table import batches, notes_of, of_embeddings, of_images, tasks_of, unmeasured, word

CHANGE = "change of "
TEXT_COLUMNS = [
    ("perplexity", "perplexity"), ("change", CHANGE + "perplexity"), ("top-1", "top1_agreement"),
    ("KL", "kl_divergence"), ("exact match", "exact_match"), ("TTFT p50", "ttft_p50_ms"), ("TBT p50", "tbt_p50_ms"),
    ("TBT p95", "tbt_p95_ms"), ("prefill", "prefill_tokens_per_s"), ("decode", "decode_tokens_per_s"),
    ("speed-up", "speed_ratio"),
]  # fmt: skip
IMAGE_COLUMNS = [
    ("accuracy", "accuracy_top1"), ("change", CHANGE + "accuracy_top1"), ("same top-1", "top1_agreement"),
    ("top-5", "accuracy_top5"),
]  # fmt: skip
EMBEDDING_COLUMNS = [
    ("cosine", "cosine_agreement"), ("same neighbours", "rank_agreement"), ("recall", "recall"),
    ("change", CHANGE + "recall"),
]  # fmt: skip
INTERVAL_SHOWN = {"perplexity", "accuracy_top1", "top1_agreement", "cosine_agreement", "rank_agreement", "recall"}
CAPTIONS: dict[Axis, str] = {
    "size": "Change of perplexity against size on disk",
    "speed": "Change of perplexity against decoding speed",
}


def markdown(record: RunRecord) -> str:
    """The report as GitHub-flavoured Markdown, without pictures."""
    return page.markdown(_blocks(redacted(record, record.config_text), {}))


def html(record: RunRecord, plots: Mapping[Axis, bytes]) -> str:
    """The report as one self-contained HTML file; `plots` are PNGs by their x axis."""
    return page.html(f"{record.name}: {record.status}", _blocks(redacted(record, record.config_text), plots))


def write(record: RunRecord, folder: Path, plots: Mapping[Axis, bytes]) -> None:
    """`report.md`, `report.html` and the pictures, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(record), encoding="utf-8")
    (folder / "report.html").write_text(html(record, plots), encoding="utf-8")
    for axis, png in plots.items():
        (folder / f"quality_against_{axis}.png").write_bytes(png)


def _blocks(record: RunRecord, plots: Mapping[Axis, bytes]) -> list[Block]:
    return [
        *_verdict(record),
        *_stages(record),
        *(Picture(png, CAPTIONS[axis]) for axis, png in plots.items()),
        *_budgets(record),
        *drafting(record),
        *_notes(record),
        *_tables(record),
        *_measurements(record),
        *_origins(record),
        Heading("Config"),
        Code(record.config_text, "yaml"),
    ]


def _verdict(record: RunRecord) -> Iterator[Block]:
    yield Heading(f"{record.name}: {record.status.upper()}", 1)
    if record.message:
        yield Paragraph(record.message)
    last = next((stage for stage in reversed(record.stages) if stage.artifact), None)
    if last and record.status == "passed":
        saved = f"`{last.stage}`, {size(last.size_bytes)}"
        yield Paragraph(f"{_met(record)} The result is the output of {saved}, artifact `{last.artifact}`.")
    elif record.status != "passed":
        kept = f" The last artifact within every budget is `{record.last_passed}`." if record.last_passed else ""
        yield Paragraph(f"Nothing was packaged or registered.{kept}")
    if record.serve:
        yield Paragraph(f"Serve it: `{record.serve}`")
    when = f"{record.started[:19].replace('T', ' ')} UTC, " if record.started else ""
    yield Paragraph(f"{when}{duration(record.seconds)}, on {_device(record.device)}.")


def _met(record: RunRecord) -> str:
    if not record.budgets:
        return "The config sets no budget."
    unclear = sum(verdict.flagged for stage in record.stages for verdict in stage.verdicts)
    return (
        f"Every budget was met, {unclear} without a clear interval (flagged)." if unclear else "Every budget was met."
    )


def _device(device: DeviceFacts) -> str:
    parts = [*device.gpus, device.cpu, f"{device.cores} cores", f"{device.memory_gb:.0f} GB", device.system]
    return ", ".join(filter(None, parts))


def _stages(record: RunRecord) -> Iterator[Block]:
    yield Heading("Stages")
    columns = _columns(record)
    header = ("stage", *(title for title, _ in columns), "memory", "on disk")
    yield Grid(header, tuple(_overview(stage, columns) for stage in record.stages), frozenset(header[1:]))
    costs = tuple(
        (stage.stage, stage.status, "yes" if stage.cached else "no", duration(stage.seconds), _spent(stage))
        for stage in record.stages
    )
    header = ("stage", "status", "cached", "made in", "measured in")
    yield Grid(header, costs, frozenset(header[3:]))
    yield Items(tuple(f"`{stage.stage}`: {stage.message}" for stage in record.stages if stage.message))
    yield Items(tuple(unmeasured(stage) for stage in record.stages if stage.unmeasured))


Columns = list[tuple[str, str]]
"""A title, and the metric under it; `change of` a metric with that prefix."""


def _columns(record: RunRecord) -> Columns:
    if of_embeddings(record):
        return [*EMBEDDING_COLUMNS, *_at_each_batch(record)]
    return [*IMAGE_COLUMNS, *_at_each_batch(record)] if of_images(record) else _text_columns(record)


def _text_columns(record: RunRecord) -> Columns:
    return [*TEXT_COLUMNS, *((title, name) for name, title in tasks_of(record).items())]


def _at_each_batch(record: RunRecord) -> Columns:
    return [
        (f"{title}, batch {size}", f"{name}{suffix}")
        for size, suffix in batches(record)
        for title, name in (("p50", "latency_p50_ms"), ("p95", "latency_p95_ms"), ("speed-up", "speed_ratio"))
    ]


def _overview(stage: StageRecord, columns: Columns) -> tuple[str, ...]:
    precision = stage.facts.get("precision")
    name = f"{stage.stage}\n{precision}" if isinstance(precision, str) else stage.stage
    metrics = stage.report.metrics if stage.report else {}
    cells = [
        _change(metrics.get(shown.removeprefix(CHANGE))) if shown.startswith(CHANGE) else _cell(metrics.get(shown))
        for _, shown in columns
    ]
    return (name, *cells, _cell(metrics.get("peak_memory_bytes")), size(stage.size_bytes))


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    interval = display.interval(metric) if metric.name in INTERVAL_SHOWN else ""
    return f"{display.value(metric)}\n{interval}".rstrip()


def _change(metric: Metric | None) -> str:
    return f"{display.change(metric)}\n{display.change_interval(metric)}".rstrip() or "-" if metric else "-"


def _spent(stage: StageRecord) -> str:
    return duration(stage.evaluation_seconds) if stage.evaluation_seconds else "-"


def _budgets(record: RunRecord) -> Iterator[Block]:
    yield Heading("Budgets")
    if not record.budgets:
        yield Paragraph("The config sets none.")
        return
    rows = [(stage.stage, word(judged), judged.message) for stage in record.stages for judged in stage.verdicts]
    if rows:
        yield Grid(("stage", "verdict", "what was found"), tuple(rows))
    judged = {verdict.metric for stage in record.stages for verdict in stage.verdicts}
    yield Items(tuple(f"`{budget.metric}` was not judged." for budget in record.budgets if budget.metric not in judged))


def _notes(record: RunRecord) -> Iterator[Block]:
    notes = [f"`{stage.stage}`: {note}" for stage in record.stages for note in notes_of(stage)]
    if notes:
        yield Heading("Notes")
        yield Items(tuple(notes))


def _tables(record: RunRecord) -> Iterator[Block]:
    """What stages found out while they worked."""
    for stage in record.stages:
        for table in stage.tables:
            yield Heading(f"From {stage.stage}", 3)
            yield Paragraph(f"{table.title}.")
            yield Grid(table.header, table.rows)


def _measurements(record: RunRecord) -> Iterator[Block]:
    yield Heading("How each number was taken")
    if record.data:
        data = record.data
        yield Paragraph(
            f"Evaluation data: {data.name}, {_amount(data)}, `{data.digest[:16]}`. "
            "Intervals are 95%; changes are against the reference, from paired samples."
        )
    header = ("metric", "value", "95% interval", "change", "its interval", "n", "how")
    for stage in record.stages:
        if stage.report:
            yield Heading(f"After {stage.stage}", 3)
            rows = tuple(_taken(metric) for metric in stage.report.metrics.values())
            yield Grid(header, rows, frozenset(header[1:6]))


def _amount(data: DataRecord) -> str:
    return f"{data.documents} documents, {data.tokens} tokens" if data.tokens else f"{data.documents} images"


def _taken(metric: Metric) -> tuple[str, ...]:
    change = (display.change(metric) or "-", display.change_interval(metric) or "-")
    interval = display.interval(metric) or "-"
    return (f"`{metric.name}`", display.value(metric), interval, *change, str(metric.n), metric.how)


def _origins(record: RunRecord) -> Iterator[Block]:
    yield Heading("Where it came from")
    rows = tuple(_origin(stage) for stage in record.stages) + tuple(_origin(stage, ", draft") for stage in record.draft)
    yield Grid(("stage", "artifact", "tools", "fields"), rows)
    commit = f"Tapeout commit `{record.git_commit[:12]}`, " if record.git_commit else ""
    yield Paragraph(f"{commit}config `{record.config_digest[:16]}`, device `{record.device.identity[:16]}`.")


def _origin(stage: StageRecord, suffix: str = "") -> tuple[str, ...]:
    return stage.stage + suffix, f"`{(stage.artifact or '-')[:16]}`", _versions(stage), _fields(stage)


def _versions(stage: StageRecord) -> str:
    return "\n".join(f"{name} {version}" for name, version in stage.tool_versions.items()) or "-"


def _fields(stage: StageRecord) -> str:
    return "\n".join(f"{name}: {value}" for name, value in stage.fields.items()) or "-"
