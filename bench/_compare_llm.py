"""The rows of bench.compare_llm as a table, as README's table, and against the goals."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from bench._idle import MOST_BUSY
from bench._results import Goal
from pipelines.comparing_runs import reference_of, result_of
from pipelines.measures import Interval
from pipelines.records import RunRecord, StageRecord
from pipelines.reporting.comparison_table import columns_of, head, row
from stages.base import ROOT, Frozen

FLOATS = ("gguf-f16", "onnx-genai-float32", "openvino-float32", "openvino-float16")
PARTS = {
    "openvino-int4": ("openvino-int4-rtn", "goal_openvino"),
    "gguf-q4_k_m-imatrix": ("gguf-q4_k_m", "goal_imatrix"),
    "gguf-mixed": ("gguf-q4_k_m", "goal_mixed"),
    "hf-gptq-int4": ("hf-rtn-int4", "goal_gptq"),
    "hf-awq-int4": ("hf-rtn-int4", "goal_awq"),
}
MARKED = re.compile(r"(<!-- compare_llm -->\n).*?(<!-- /compare_llm -->\n)", re.DOTALL)
PICTURE = "![Size against perplexity, with the Pareto front](docs/compare_llm.png)"
LEFT_OUT = frozenset({"95% interval"})


class Row(Frozen):
    """One config's run, and how much other work the machine had when its speed was taken; None: it was not taken."""

    record: RunRecord
    busy: float | None = None

    @property
    def idle(self) -> str:
        """In a word."""
        return "-" if self.busy is None else "yes" if self.busy <= MOST_BUSY else f"no, {self.busy:.0%}"


def lean(record: RunRecord) -> RunRecord:
    """What a row shows, without what holds on one machine alone."""
    shown = {stage.index for stage in (reference_of(record), result_of(record)) if stage}
    stages = tuple(
        StageRecord(
            index=stage.index,
            stage=stage.stage,
            role=stage.role,
            status=stage.status,
            cached=stage.cached,
            seconds=stage.seconds,
            artifact=stage.artifact,
            size_bytes=stage.size_bytes,
            bits_a_weight=stage.bits_a_weight,
            report=stage.report if stage.index in shown else None,
            verdicts=stage.verdicts if stage.index in shown else (),
        )
        for stage in record.stages
    )
    path = Path(record.config_path)
    named = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    return record.model_copy(
        update={"stages": stages, "bundle": None, "serve": None, "config_path": named, "message": ""}
    )


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    titles, cells = _cells(rows)
    shown = Table(*titles)
    for each in cells:
        shown.add_row(*each)
    return shown


def into_readme(file: Path, rows: Sequence[Row]) -> None:
    """Write the table between its marks."""
    titles, cells = _cells(rows)
    lines = [titles, ["---", "---", *["---:"] * (len(titles) - 4), "---", "---"], *cells]
    written = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text = file.read_text(encoding="utf-8")
    file.write_text(MARKED.sub(lambda match: f"{match[1]}\n{written}\n{PICTURE}\n\n{match[2]}", text), encoding="utf-8")


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    records = [each.record for each in rows]
    columns = [column for column in columns_of(records) if column[0] not in LEFT_OUT]
    titles = [*head(records, columns), "idle"]
    return titles, [[*row(each.record, columns), each.idle] for each in rows]


def loss(record: RunRecord) -> Interval | None:
    """Relative change of perplexity against the reference."""
    stage = result_of(record)
    return stage.report.metrics["perplexity"].relative if stage and stage.report else None


def goals(rows: Sequence[Row], options: argparse.Namespace) -> list[Goal]:
    """Of what was measured: full precisions against the reference, and each method against its plain form."""
    losses = {each.record.name: change.value for each in rows if (change := loss(each.record))}
    found = [
        Goal(
            what=f"{name} against the reference",
            value=abs(losses[name]) * 100,
            at_most=options.goal_float_percent,
            unit="%",
            detail=f"{losses[name] * 100:+.4f}%",
        )
        for name in FLOATS
        if name in losses
    ]
    for name, (plain, goal) in PARTS.items():
        if name in losses and plain in losses:
            ratio = losses[name] / losses[plain]
            detail = f"{losses[name]:+.2%} / {losses[plain]:+.2%}: {ratio:.3f} x"
            limit = getattr(options, goal)
            found.append(
                Goal(what=f"{name}: loss against {plain}'s", value=ratio, at_most=limit, unit="x", detail=detail)
            )
    return found
