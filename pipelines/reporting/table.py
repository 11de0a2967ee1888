"""The stage table on the terminal: a row a stage, legible at 80 columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipelines.budget import Verdict
from pipelines.measures import Metric, Report
from pipelines.quantities import size
from pipelines.records import RunRecord, StageRecord
from pipelines.reporting import display

OF_A_CLASSIFIER = {"accuracy_top1", "accuracy_top5"}
STYLES = {"pass": "green", "FAIL": "bold red", "flagged": "yellow"}


def stage_table(record: RunRecord) -> Table:
    """What was measured after every stage. Numbers that were not taken are a dash."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, leading=1, header_style="dim")
    columns = _columns(record)
    table.add_column("stage\nprecision\nmade + eval", no_wrap=True)
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    table.add_column("memory\non disk", justify="right", no_wrap=True)
    table.add_column("budgets", overflow="fold")
    for stage in record.stages:
        table.add_row(*_row(stage, columns))
    return table


@dataclass(frozen=True)
class Column:
    """Metrics that stand below each other in one cell."""

    header: str
    cell: Callable[[Report], Text]


def of_images(record: RunRecord) -> bool:
    """Whether the run measured a classifier."""
    own = {"accuracy_top1", "latency_p50_ms"}
    measured = any(stage.report and stage.report.metrics.keys() & own for stage in record.stages)
    return measured and not of_embeddings(record)


def of_embeddings(record: RunRecord) -> bool:
    """Whether the run measured a text encoder."""
    return any(stage.report and "cosine_agreement" in stage.report.metrics for stage in record.stages)


def of_arrays(record: RunRecord) -> bool:
    """Whether the run measured a classifier or an encoder."""
    return of_images(record) or of_embeddings(record)


def _columns(record: RunRecord) -> list[Column]:
    if of_embeddings(record):
        return [*EMBEDDING_COLUMNS, *_at_each_batch(record)]
    return _image_columns(record) if of_images(record) else text_columns(tasks_of(record))


def text_columns(tasks: dict[str, str]) -> list[Column]:
    """Quality, agreement, latency and throughput; `tasks` are titles by the names of accuracy metrics."""
    times = (("ttft_p50_ms", _bare), ("tbt_p50_ms", _bare), ("tbt_p95_ms", _bare))
    return [
        Column("perplexity\n95% interval\nchange\nits 95%, %", _with_change("perplexity")),
        Column("\n".join(["top-1", "KL, nats", "exact", *tasks.values()]), partial(_agreement, tasks=list(tasks))),
        Column("ms\nTTFT\nTBT p50\nTBT p95", lambda report: _stack(report, *times)),
        Column("tokens/s\nprefill\ndecode\nspeed-up", _throughput),
    ]


def _image_columns(record: RunRecord) -> list[Column]:
    accuracy = Column("accuracy\n95% interval\nchange\nits 95%", _with_change("accuracy_top1"))
    return [accuracy, Column("same\ntop-1\ntop-5", _unchanged), *_at_each_batch(record)]


def _at_each_batch(record: RunRecord) -> list[Column]:
    return [
        Column(f"batch {size}\np50, ms\np95, ms\nspeed-up", partial(_batch, suffix=suffix))
        for size, suffix in batches(record)
    ]


def batches(record: RunRecord) -> list[tuple[str, str]]:
    """Each batch size, and what the names of its metrics end with: nothing for the first."""
    latency = record.evaluation.get("latency")
    sizes = latency.get("batch_sizes") if isinstance(latency, dict) else None
    found = map(str, sizes) if isinstance(sizes, list | tuple) else ()
    return [(size, "" if number == 0 else f"_{size}") for number, size in enumerate(found)]


def verdict_lines(record: RunRecord) -> list[Text]:
    """Each budget's verdict in a sentence, the last judged stage's; then what was flagged."""
    judged = next((stage for stage in reversed(record.stages) if stage.verdicts), None)
    verdicts = judged.verdicts if judged else ()
    lines = [Text.assemble((f"{word(verdict):8}", STYLES[word(verdict)]), verdict.message) for verdict in verdicts]
    notes = [note for stage in record.stages for note in notes_of(stage)]
    notes += [unmeasured(stage) for stage in record.stages if stage.unmeasured]
    return lines + [Text.assemble(("note    ", "yellow"), note) for note in dict.fromkeys(notes)]


def notes_of(stage: StageRecord) -> tuple[str, ...]:
    """What the stage says of its work, then what measuring it gave rise to."""
    return (*stage.notes, *(stage.report.notes if stage.report else ()))


def unmeasured(stage: StageRecord) -> str:
    """That a stage's artifact was made and not judged, and why."""
    return f"{stage.stage} is not measured on this device: {stage.unmeasured}; the gate judged the stage before it"


def word(verdict: Verdict) -> str:
    """The verdict in one word, the same with colours and without."""
    if not verdict.passed:
        return "FAIL"
    return "flagged" if verdict.flagged else "pass"


def tasks_of(record: RunRecord) -> dict[str, str]:
    """Metric name and task name of every multiple-choice task."""
    names = {name for stage in record.stages if stage.report for name in stage.report.metrics}
    tasks = sorted(name for name in names - OF_A_CLASSIFIER if name.startswith("accuracy_"))
    return {name: name.removeprefix("accuracy_") for name in tasks}


def _row(stage: StageRecord, columns: list[Column]) -> list[Text]:
    if (report := stage.report) is None:
        dashes = [Text("-", style="dim")] * len(columns)
        return [_name(stage), *dashes, Text(f"-\n{size(stage.size_bytes)}"), _budgets(stage)]
    cells = [column.cell(report) for column in columns]
    return [_name(stage), *cells, _footprint(report, stage), _budgets(stage)]


def _name(stage: StageRecord) -> Text:
    precision = stage.facts.get("precision")
    what = " ".join(filter(None, [precision if isinstance(precision, str) else "", _role(stage)]))
    spent = " + ".join(_short(part) for part in (stage.seconds, stage.evaluation_seconds) if part)
    lines = [(stage.stage, "bold" if stage.status == "completed" else "bold red")]
    lines += [(f"\n{line}", "dim") for line in (what, spent, "cached" if stage.cached else "") if line]
    if stage.status != "completed":
        lines.append((f"\n{stage.status.upper()}", "bold red"))
    return Text.assemble(*lines)


def _short(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _role(stage: StageRecord) -> str:
    return "ref." if stage.role == "reference" else ""


def _with_change(name: str) -> Callable[[Report], Text]:
    def cell(report: Report) -> Text:
        metric = report.metrics.get(name)
        if metric is None:
            return Text("-", style="dim")
        lines: list[tuple[str, str]] = [(display.value(metric), "bold"), (f"\n{display.interval(metric)}", "dim")]
        if changed := display.change(metric):
            lines += [(f"\n{changed}", "bold"), (f"\n{display.change_interval(metric).rstrip('%')}", "dim")]
        return Text.assemble(*lines)

    return cell


def _unchanged(report: Report) -> Text:
    return _stack(report, ("top1_agreement", display.value), ("accuracy_top5", display.value))


def _batch(report: Report, suffix: str) -> Text:
    times = ((f"latency_p50_ms{suffix}", _bare), (f"latency_p95_ms{suffix}", _bare))
    return _stack(report, *times, (f"speed_ratio{suffix}", display.value))


def _agreement(report: Report, tasks: list[str]) -> Text:
    accuracies = [(task, display.value) for task in tasks]
    own = (("top1_agreement", display.value), ("kl_divergence", _bare), ("exact_match", display.value))
    return _stack(report, *own, *accuracies)


def _throughput(report: Report) -> Text:
    names = ("prefill_tokens_per_s", "decode_tokens_per_s", "speed_ratio")
    return _stack(report, (names[0], _bare), (names[1], _bare), (names[2], display.value))


def _footprint(report: Report, stage: StageRecord) -> Text:
    memory = report.metrics.get("peak_memory_bytes")
    return Text(f"{display.value(memory) if memory else '-'}\n{size(stage.size_bytes)}")


def _stack(report: Report, *lines: tuple[str, Callable[[Metric], str]]) -> Text:
    return Text("\n".join(write(report.metrics[name]) if name in report.metrics else "-" for name, write in lines))


def _bare(metric: Metric) -> str:
    return display.scale_of(metric).bare(metric.value)


def _budgets(stage: StageRecord) -> Text:
    if stage.unmeasured:
        return Text("not measured on this device", style=STYLES["flagged"])
    lines = [Text.assemble((word(verdict), STYLES[word(verdict)]), f" {verdict.metric}") for verdict in stage.verdicts]
    return Text("\n").join(lines) if lines else Text("-", style="dim")


EMBEDDING_COLUMNS = [
    Column("cosine\n95% interval", _with_change("cosine_agreement")),
    Column("same\nneighbours", _with_change("rank_agreement")),
    Column("recall\n95% interval\nchange\nits 95%", _with_change("recall")),
]
