"""The planner's predictions against measurements: calibrated on half of the runs, judged on the other half.

    python -m bench.audit

Runs SmolLM2-135M in twelve formats (six GGUF types, three of OpenVINO, three of ONNX Runtime GenAI), each under two
workloads: prompts of 64 and 256 tokens, and of 128 and 384. The efficiencies are fitted to the runs of the first
workload, and judged on those of the second. Beside that: each format judged by a fit that has seen no run of it. Speed
alone is measured. --keep FOLDER keeps the store and takes up what is done.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from bench._homes import fetched, new_home, renew_store
from bench._processes import TAPEOUT, run, variables
from bench._results import Goal, finish, parser_of, terminal
from pipelines.planner import audit, fitting
from pipelines.planner.audit import Row
from pipelines.planner.audit_table import audit_table
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.sightings import Sighting, compared
from stages.base import ROOT

CONFIGS = ROOT / "configs/smollm2-135m"
LADDER = "gguf_ladder"
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"gguf {kind}": (f"{LADDER}/{kind}", ()) for kind in ("f16", "q8_0", "q6_k", "q4_k_m", "q3_k_m", "q2_k")},
    "openvino float16": ("openvino_float", ()),
    "openvino int8": ("openvino_int8", ()),
    "openvino int4": ("openvino_int4_rtn", ()),
    "onnx float32": ("onnx_genai_float", ()),
    "onnx int8": ("onnx_genai_float", ("steps.build_onnx_llm={precision: int8, block_size: 32}",)),
    "onnx int4": ("onnx_genai_float", ("steps.build_onnx_llm={precision: int4, block_size: 32}",)),
}
WORKLOADS = ((64, 256), (128, 384))
QUICK = (
    "data.evaluation={builtin: python-docs, split: evaluation}",
    "evaluation.perplexity={windows: 2, window: 64, max_windows: 2}",
    "evaluation.generation=null",
    "budgets=[{metric: size_bytes, max: 2 GB}]",
)
LIMITS = {"size_bytes": 1.0, "tbt_p50_ms": 8.0, "ttft_p50_ms": 15.0}
"""Median error in percent, on runs that were not fitted."""


def main() -> int:
    options = arguments()
    names = [name for name in RUNS if options.only in name]
    with tempfile.TemporaryDirectory(prefix="tapeout-audit-") as folder:
        home = options.keep or Path(folder) / "home"
        if not home.exists():
            new_home(home)
            renew_store(home, fetched(CONFIGS / f"{LADDER}/f16.yaml", Path(folder)))
        for name in names:
            for prompts in WORKLOADS:
                carried_out(name, prompts, home, options)
        seen = audit.sightings_in(home / "runs")
    fitted, judged = ([run for run in seen if run.prompts == prompts] for prompts in WORKLOADS)
    known = fitting.fit(fitted)
    rows = timed(audit.with_calibrations(judged, known))
    unseen = timed(audit.with_calibrations_each(leave_out(seen)))
    terminal().print(table(judged, known), audit_table(rows, "judged on the other workload"))
    terminal().print(audit_table(unseen, "each format by a fit that has not seen it"))
    details: dict[str, JsonValue] = {
        "runs": len(seen),
        "rows": [row.model_dump(mode="json") for row in rows],
        "unseen": [row.model_dump(mode="json") for row in unseen],
        "sightings": [run.model_dump(mode="json", exclude={"hardware": {"sources"}}) for run in seen],
    }
    goals = [goal(row) for row in rows if row.metric in LIMITS]
    return finish(options.results, "audit", "Predicted against measured", goals, details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--keep", type=Path, help="home that keeps what is done")
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def carried_out(name: str, prompts: tuple[int, ...], home: Path, options: argparse.Namespace) -> None:
    """One run of a format under a workload, from the store where it is there."""
    config, own = RUNS[name]
    speed = f"evaluation.speed={{prompt_tokens: {list(prompts)}, tokens: 32, pairs: 3, max_pairs: 4, time_limit_s: 8}}"
    command = [TAPEOUT, "run", str(CONFIGS / f"{config}.yaml"), *QUICK, speed, f"threads={options.threads}", *own]
    Console(stderr=True).print(f"{name}, prompts of {' and '.join(map(str, prompts))} tokens ...")
    more = ("--dist", str(home / "dist"), "--no-prefect", "--no-mlflow", "--quiet")
    run([*command, *more], variables(home), home).checked()


def leave_out(seen: Sequence[Sighting]) -> list[tuple[Sighting, Calibrations]]:
    """Each one with a fit to the runs of its engine's other formats."""
    found = []
    for name, engine in sorted({(one.format.name, one.engine) for one in seen}):
        others = [one for one in seen if one.engine == engine and one.format.name != name]
        fitted = fitting.fit(others)
        found += [(one, fitted) for one in seen if (one.format.name, one.engine) == (name, engine)]
    return found


def timed(rows: Sequence[Row]) -> list[Row]:
    """All but quality: two windows of 64 tokens say nothing of it."""
    return [row for row in rows if row.metric not in audit.POINTS]


def table(judged: Sequence[Sighting], known: Calibrations) -> Table:
    """A row a run: predicted, measured."""
    shown = Table(
        "run", "size MB", "memory MB", "TTFT ms", "TBT ms", title="predicted / measured", title_justify="left"
    )
    for seen in judged:
        reached = known.efficiency(seen.hardware, seen.engine, seen.format, seen.engine_version)
        found = {item.name: item for item in compared(seen, reached, known, seen.measured())}
        cells = []
        for metric, factor in (
            ("size_bytes", 1e-6),
            ("peak_memory_bytes", 1e-6),
            ("ttft_p50_ms", 1),
            ("tbt_p50_ms", 1),
        ):
            item = found[metric]
            cells.append(f"{item.predicted * factor:.4g} / {item.measured * factor:.4g} ({item.error:+.1%})")
        shown.add_row(f"{seen.engine} {seen.format.name}", *cells)
    return shown


def goal(row: Row) -> Goal:
    """That the median error is small."""
    return Goal(what=f"{row.metric}: median error", value=row.median * 100, at_most=LIMITS[row.metric], unit="%")


if __name__ == "__main__":
    sys.exit(main())
