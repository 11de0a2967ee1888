"""What the report says of a draft model: what it is, how often it was right, what it did to speed."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.quantities import size
from pipelines.records import RunRecord, StageRecord
from pipelines.reporting import display
from pipelines.reporting.page import Block, Grid, Heading, Paragraph

ROWS = (
    ("accepted of what was drafted", "draft_acceptance"),
    ("tokens a pass of the model", "draft_tokens_per_step"),
    ("tokens/s without the draft", "undrafted_tokens_per_s"),
    ("tokens/s with the draft", "draft_tokens_per_s"),
    ("speed-up", "draft_speedup"),
    ("outputs that are the model's own, token by token", "draft_exact_match"),
    ("further memory", "draft_memory_bytes"),
)


def drafting(record: RunRecord) -> Iterator[Block]:
    """The section on speculative decoding, where the config names a draft model."""
    if not record.draft:
        return
    yield Heading("Speculative decoding")
    made = ", ".join(f"`{stage.stage}`{_precision(stage)}" for stage in record.draft)
    last = record.draft[-1]
    yield Paragraph(f"The draft model: {made}; {size(last.size_bytes)}, artifact `{last.artifact or '-'}`.")
    measured = next((stage.report for stage in reversed(record.stages) if stage.report), None)
    metrics = measured.metrics if measured else {}
    rows = tuple(
        (title, display.value(metrics[name]), display.interval(metrics[name]) or "-", metrics[name].how)
        for title, name in ROWS
        if name in metrics
    )
    if rows:
        yield Grid(("", "value", "95% interval", "how"), rows, frozenset({"value", "95% interval"}))
    else:
        yield Paragraph("It was not measured.")


def _precision(stage: StageRecord) -> str:
    precision = stage.facts.get("precision")
    return f" ({precision})" if isinstance(precision, str) else ""
