"""Every way to make SmolLM2-135M smaller, measured alike on Wikipedia text: one table and one plot.

    python -m bench.compare_llm                        # quality; speed too, where the machine is idle
    python -m bench.compare_llm --only gguf,openvino   # the configs whose names begin so; the others as they were kept

Runs the configs in your own Tapeout home, so that what is in the store is neither made nor measured again: 64 windows
of 512 tokens, 200 questions. A config's speed is taken after all of it is made, and marked where the machine did other
work before or after. `--take N` with another number takes it anew. The table goes into README.md, the plot into docs/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from bench._compare_llm import Row, goals, into_readme, lean, table
from bench._idle import MOST_BUSY, busy_share
from bench._processes import TAPEOUT
from bench._results import finish, parser_of
from bench.mixtures import CONFIGS, NEW_WIKI
from pipelines.comparing_runs import track, weighed
from pipelines.home import home
from pipelines.outcome import Outcome
from pipelines.records import RunRecord
from pipelines.reporting.comparison_picture import chart
from pipelines.reporting.output import standard_output
from pipelines.store import Store
from stages.base import ROOT

WIDE = 260  # characters; the table has nineteen columns
PLOT = ROOT / "docs" / "compare_llm.png"
QUESTIONS = (
    "evaluation.tasks={social_iqa: {examples: 200, data: {package: bigbench==1.0.0, "
    "file: bigbench/benchmark_tasks/social_iqa/task.json, "
    "sha256: edc9f568b70ae6d4af0783764dbe4e4f18aa1242c675a93f534338d73a565348, reader: multiple-choice}}}"
)
QUALITY = (NEW_WIKI, "evaluation.perplexity={windows: 64, window: 512, max_windows: 64}", "evaluation.generation=null")


@dataclass(frozen=True)
class Entry:
    """A config, under the name that it has in the table, with what is changed of it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()


ENTRIES = (
    Entry("gguf-f16", "gguf_ladder/f16"),
    Entry("gguf-q8_0", "gguf_ladder/q8_0"),
    Entry("gguf-q6_k", "gguf_q6_k"),
    Entry("gguf-q4_k_m", "gguf_q4_k_m"),
    Entry("gguf-q4_k_m-imatrix", "gguf_q4_k_m_imatrix"),
    Entry("gguf-mixed", "gguf_mixed"),
    Entry("onnx-genai-float32", "onnx_genai_float"),
    Entry("onnx-genai-int4", "onnx_genai_int4"),
    Entry("onnx-genai-gptq", "onnx_genai_gptq"),
    Entry("openvino-float32", "openvino_float", ("steps.openvino_llm.precision=float32",)),
    Entry("openvino-float16", "openvino_float"),
    Entry("openvino-int8", "openvino_int8"),
    Entry("openvino-int4", "openvino_int4"),
    Entry("openvino-int4-rtn", "openvino_int4_rtn"),
    Entry("hf-gptq-int4", "gptq_int4"),
    Entry("hf-awq-int4", "awq_int4"),
    Entry("hf-rtn-int4", "rtn_int4"),
)


def main() -> int:
    options = arguments()
    kept = options.results / "compare_llm.json"
    rows = {row.record.name: row for row in (previous(kept) if options.only else ())}
    wanted = [entry for entry in ENTRIES if not options.only or entry.name.startswith(tuple(options.only.split(",")))]
    for entry in wanted:
        if row := measured(entry, options):
            rows[entry.name] = row
    shown = [rows[entry.name] for entry in ENTRIES if entry.name in rows]
    if not shown:
        return 1
    records = [row.record for row in shown]
    standard_output(WIDE).print(table(shown))
    PLOT.write_bytes(chart(records) or b"")
    into_readme(ROOT / "README.md", shown)
    if options.mlflow:
        Console(stderr=True).print(track([Outcome(record, None) for record in records]))
    kept_rows: list[JsonValue] = [row.model_dump(mode="json") for row in shown]
    details: dict[str, JsonValue] = {"windows": 64, "window": 512, "rows": kept_rows}
    return finish(options.results, "compare_llm", "SmolLM2-135M, new_wiki", goals(shown, options), details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="beginnings of names, with commas between")
    parser.add_argument("--no-tasks", action="store_true", help="leave the questions out")
    parser.add_argument("--no-speed", action="store_true", help="leave speed out, however idle the machine is")
    parser.add_argument("--take", type=int, default=0, help="a number; with another one speed is taken anew")
    parser.add_argument("--mlflow", action="store_true", help="log the comparison, with the plot")
    parser.add_argument("--threads", type=int, help="for every run; all cores without it")
    parser.add_argument("--goal-float-percent", type=float, default=0.01, help="of perplexity, every full precision")
    parser.add_argument("--goal-openvino", type=float, default=0.5, help="of what rounding to nearest loses")
    parser.add_argument("--goal-imatrix", type=float, default=0.55, help="of what plain Q4_K_M loses")
    parser.add_argument("--goal-mixed", type=float, default=0.35, help="of what plain Q4_K_M loses")
    parser.add_argument("--goal-gptq", type=float, default=0.4, help="of what rounding to nearest loses")
    parser.add_argument("--goal-awq", type=float, default=0.6, help="of what rounding to nearest loses")
    return parser.parse_args()


def measured(entry: Entry, options: argparse.Namespace) -> Row | None:
    """Made and measured for quality, then for speed where the machine is idle; None where a tool failed."""
    Console(stderr=True).print(f"{entry.name} ...")
    asked = [*QUALITY, *entry.overrides, f"name={entry.name}", *(() if options.no_tasks else (QUESTIONS,))]
    asked += [f"threads={options.threads}"] if options.threads else []
    record = run(entry, [*asked, "evaluation.speed=null"])
    if record is None or options.no_speed:
        return Row(record=record) if record else None
    if (before := busy_share()) > MOST_BUSY:
        Console(stderr=True).print(f"  other work takes {before:.0%} of the machine: speed is not taken")
        return Row(record=record)
    timed = run(entry, [*asked, f"evaluation.speed={{time_limit_s: {120 + options.take / 1000}}}"])
    return Row(record=timed or record, busy=max(before, busy_share())) if timed else Row(record=record)


def run(entry: Entry, overrides: Sequence[str]) -> RunRecord | None:
    """The record of a run that passed or was over its budget."""
    command = [TAPEOUT, "run", str(CONFIGS / f"{entry.config}.yaml"), *overrides, "--json", "--quiet"]
    command += ["--no-mlflow", "--no-prefect", "--dist", str(home() / "bench-dist")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        Console(stderr=True).print(done.stderr[-1500:], markup=False)
        return None
    return lean(weighed(RunRecord.model_validate_json(done.stdout), Store(home() / "store")))


def previous(file: Path) -> list[Row]:
    """The rows of an earlier run."""
    if not file.is_file():
        return []
    return [Row.model_validate(row) for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


if __name__ == "__main__":
    sys.exit(main())
