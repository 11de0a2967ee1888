"""Perplexity of every rung of the ladder of quantizations, against the figures measured by hand.

    python -m bench.ladder

Runs configs/smollm2-135m/gguf_ladder/*.yaml: 16 windows of 512 tokens of Wikipedia text. The figures by hand are those
of the same windows through the tools alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from bench._homes import fetched, latest_record, new_home, renew_store
from bench._processes import TAPEOUT, prefect_server, run, variables
from bench._results import Goal, finish, parser_of, terminal
from pipelines.measures import Metric
from pipelines.records import RunRecord
from stages.base import ROOT

CONFIGS = ROOT / "configs/smollm2-135m/gguf_ladder"
BY_HAND = {
    "reference": 30.4539,
    "f16": 30.4527,
    "q8_0": 30.6457,
    "q6_k": 30.8764,
    "q5_k_m": 33.9927,
    "q4_k_m": 32.6242,
    "q3_k_m": 35.1847,
    "q2_k": 43.98,
}
QUALITY_ONLY = ("evaluation.speed=null", "evaluation.generation=null")


def main() -> int:
    options = arguments()
    rungs = options.rungs.split(",")
    with tempfile.TemporaryDirectory(prefix="tapeout-ladder-") as folder:
        scratch = Path(folder)
        home = new_home(scratch / "home")
        renew_store(home, fetched(CONFIGS / "f16.yaml", scratch))
        with prefect_server(scratch / "prefect-server") as api:
            records = {rung: climbed(rung, options, home, api) for rung in rungs}
    reports = {rung: record.stages[-1].report for rung, record in records.items()}
    metrics = {rung: report.metrics for rung, report in reports.items() if report}
    first = records[rungs[0]].stages[1].report
    assert first is not None
    measured = {"reference": first.metrics["perplexity"].value}
    measured |= {rung: found["perplexity"].value for rung, found in metrics.items()}
    sizes = {rung: record.stages[-1].size_bytes / 1e6 for rung, record in records.items()}
    terminal().print(ladder(metrics, measured, sizes))
    details: dict[str, JsonValue] = {
        "n": 1,
        "windows": 16,
        "window": 512,
        "perplexity": {**measured},
        "size_mb": {**sizes},
    }
    return finish(options.results, "ladder", "The ladder of quantizations, new_wiki", goals(measured, options), details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rungs", default=",".join(list(BY_HAND)[1:]), help="which, with commas between")
    parser.add_argument("--speed", action="store_true", help="measure speed and continuations, too")
    parser.add_argument("--goal-f16-percent", type=float, default=0.01, help="F16 against the reference")
    parser.add_argument("--goal-percent", type=float, default=0.5, help="every rung against its figure by hand")
    return parser.parse_args()


def climbed(rung: str, options: argparse.Namespace, home: Path, api: str) -> RunRecord:
    """The record of one rung's run, which has to pass."""
    own = variables(home, PREFECT_API_URL=api, PREFECT_HOME=str(home / "prefect"))
    overrides = () if options.speed else QUALITY_ONLY
    command = [TAPEOUT, "run", str(CONFIGS / f"{rung}.yaml"), *overrides, "--dist", str(home / "dist")]
    Console(stderr=True).print(f"{rung} ...")
    run(command, own, home).checked()
    return latest_record(home)


def ladder(metrics: dict[str, dict[str, Metric]], measured: dict[str, float], sizes: dict[str, float]) -> Table:
    """A row a rung."""
    table = Table("", "perplexity", "by hand", "change to the reference", "interval", "same top-1", "KL", "size MB")
    table.add_row("reference", f"{measured['reference']:.4f}", f"{BY_HAND['reference']:.4f}")
    for rung, found in metrics.items():
        change = found["perplexity"].relative
        assert change is not None
        table.add_row(
            rung,
            f"{found['perplexity'].value:.4f}",
            f"{BY_HAND[rung]:.4f}",
            f"{change.value:+.2%}",
            f"{change.low:+.2%}..{change.high:+.2%}",
            f"{found['top1_agreement'].value:.1%}",
            f"{found['kl_divergence'].value:.4f}",
            f"{sizes[rung]:.0f}",
        )
    return table


def goals(measured: dict[str, float], options: argparse.Namespace) -> list[Goal]:
    """Of F16 against the reference, and of every rung against its figure by hand."""
    found = []
    if "f16" in measured:
        found.append(
            goal("F16 against the reference", measured["f16"], measured["reference"], options.goal_f16_percent)
        )
    for rung, value in measured.items():
        found.append(goal(f"{rung} against by hand", value, BY_HAND[rung], options.goal_percent))
    return found


def goal(what: str, value: float, expected: float, percent: float) -> Goal:
    """That two perplexities differ by so many percent at most."""
    off = (value / expected - 1) * 100
    return Goal(
        what=what, value=abs(off), at_most=percent, unit="%", detail=f"{value:.4f} / {expected:.4f}: {off:+.4f}%"
    )


if __name__ == "__main__":
    sys.exit(main())
