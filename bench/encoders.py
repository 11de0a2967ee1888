"""MiniLM at INT8 in ONNX Runtime and OpenVINO: what the embeddings keep, how fast they come, how large the model is.

    python -m bench.encoders

Runs the configs of configs/minilm through `tapeout run`, in a new home. Speed is against the float32 graph in the same
runtime, in alternation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench._homes import fetched, latest_record, new_home, renew_store
from bench._processes import TAPEOUT, run, variables
from bench._results import Goal, finish, parser_of, terminal
from bench.vision import metrics_of, told
from pipelines.measures import Metric
from pipelines.records import RunRecord
from pipelines.reporting import display
from stages.base import ROOT

CONFIGS = ROOT / "configs/minilm"
NAMES = ("onnxruntime_int8", "openvino_int8")
SHOWN = ("cosine_agreement", "rank_agreement", "recall", "speed_ratio", "speed_ratio_8", "size_bytes")


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-encoders-") as folder:
        scratch = Path(folder)
        home = new_home(scratch / "home")
        renew_store(home, fetched(CONFIGS / f"{NAMES[0]}.yaml", scratch))
        records = {name: ran(name, home, options.set) for name in NAMES}
    found = {name: metrics_of(record) for name, record in records.items()}
    terminal().print(table(found))
    return finish(
        options.results,
        "encoders",
        "MiniLM at INT8, CPU runtimes",
        goals(records, found, options),
        told(records, found),
    )


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--goal-cosine", type=float, default=0.99, help="least mean cosine with the reference")
    parser.add_argument("--goal-speed", type=float, default=1.5, help="least speed ratio of the faster of the two")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to both configs, for a try")
    return parser.parse_args()


def ran(name: str, home: Path, changes: list[str]) -> RunRecord:
    """The record of one config's run, whether its budgets held or not."""
    Console(stderr=True).print(f"{name} ...")
    command = [TAPEOUT, "run", str(CONFIGS / f"{name}.yaml"), *changes, "--no-prefect", "--dist", str(home / "dist")]
    ended = run(command, variables(home), home)
    if ended.code > 1:
        ended.checked()
    return latest_record(home)


def table(found: dict[str, dict[str, Metric]]) -> Table:
    """A row a config, with 95% intervals."""
    shown = Table("", *SHOWN)
    for name, metrics in found.items():
        cells = [metrics[key] for key in SHOWN if key in metrics]
        shown.add_row(name, *(f"{display.value(cell)}\n{display.interval(cell)}" for cell in cells))
    return shown


def goals(
    records: dict[str, RunRecord], found: dict[str, dict[str, Metric]], options: argparse.Namespace
) -> list[Goal]:
    """Both within their budgets, each cosine, and the speed of the faster one."""
    halted = [name for name, record in records.items() if record.status != "passed"]
    made = [Goal(what="runs over budget", value=len(halted), at_most=0, unit="", detail=", ".join(halted))]
    for name, metrics in found.items():
        lost = 1 - metrics["cosine_agreement"].value
        made.append(Goal(what=f"{name}: 1 - cosine", value=lost, at_most=1 - options.goal_cosine, unit=""))
    ratios = {name: metrics["speed_ratio"].value for name, metrics in found.items() if "speed_ratio" in metrics}
    best = max(ratios, key=lambda name: ratios[name])
    detail = f"{best}: {ratios[best]:.2f}x, goal {options.goal_speed}x"
    time = 1 / ratios[best]
    return [*made, Goal(what="time against float", value=time, at_most=1 / options.goal_speed, unit="", detail=detail)]


if __name__ == "__main__":
    sys.exit(main())
