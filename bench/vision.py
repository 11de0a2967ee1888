"""The CIFAR-10 network on the CPU runtimes: what INT8 loses, how much faster it is, and what the rewrite brought.

    python -m bench.vision

Runs the configs of configs/cifar10-cnn that a CPU can measure through `tapeout run`, in a new home. Speed is against
the float32 graph in the same runtime, in alternation.
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
from pipelines.comparing_runs import result_of
from pipelines.measures import Interval, Metric
from pipelines.records import RunRecord
from stages.base import ROOT

CONFIGS = ROOT / "configs/cifar10-cnn"
SPEED = {"onnxruntime_int8": (2.7, 3.0), "openvino_int8": (2.3, 3.2)}
"""Goals at batch 1 and 32, per config that is to pass."""
BATCHES = ((1, "speed_ratio"), (32, "speed_ratio_32"))
EXPECTED = {"onnxruntime_float32": "passed", "onnxruntime_int8_as_exported": "halted", **dict.fromkeys(SPEED, "passed")}


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-vision-") as folder:
        scratch = Path(folder)
        home = new_home(scratch / "home")
        renew_store(home, fetched(CONFIGS / "onnxruntime_int8.yaml", scratch))
        with prefect_server(scratch / "prefect-server") as api:
            records = {name: ran(name, home, api) for name in EXPECTED}
    found = {name: metrics_of(record) for name, record in records.items()}
    terminal().print(table(records, found))
    return finish(
        options.results,
        "vision",
        "CIFAR-10 network, CPU runtimes",
        goals(records, found, options),
        told(records, found),
    )


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--goal-points", type=float, default=0.5, help="accuracy that INT8 may lose")
    parser.add_argument("--goal-agreement", type=float, default=97.0, help="unchanged top-1 answers of INT8, percent")
    return parser.parse_args()


def ran(name: str, home: Path, api: str) -> RunRecord:
    """The record of one config's run, whether its budgets held or not."""
    own = variables(home, PREFECT_API_URL=api, PREFECT_HOME=str(home / "prefect"))
    Console(stderr=True).print(f"{name} ...")
    ended = run([TAPEOUT, "run", str(CONFIGS / f"{name}.yaml"), "--dist", str(home / "dist")], own, home)
    if ended.code > 1:
        ended.checked()
    return latest_record(home)


def metrics_of(record: RunRecord) -> dict[str, Metric]:
    """Of the last stage that was measured."""
    stage = result_of(record)
    assert stage is not None
    assert stage.report is not None
    return stage.report.metrics


def told(records: dict[str, RunRecord], found: dict[str, dict[str, Metric]]) -> dict[str, JsonValue]:
    """What the file keeps of one run of each config."""
    return {
        "n": 1,
        "runs": {
            name: {"status": records[name].status, "metrics": {key: item.model_dump() for key, item in each.items()}}
            for name, each in found.items()
        },
    }


def table(records: dict[str, RunRecord], found: dict[str, dict[str, Metric]]) -> Table:
    """A row a config, with 95% intervals."""
    shown = Table("", "accuracy", "change, points", "same top-1", "x at batch 1", "x at batch 32", "MB", "verdict")
    for name, metrics in found.items():
        change = metrics["accuracy_top1"].change
        assert change is not None
        shown.add_row(
            f"{name} (n={metrics['accuracy_top1'].n:,})",
            spread(metrics["accuracy_top1"], 100),
            spread(change, 100, "+.2f"),
            spread(metrics["top1_agreement"], 100),
            spread(metrics["speed_ratio"]),
            spread(metrics["speed_ratio_32"]),
            f"{metrics['size_bytes'].value / 1e6:.1f}",
            records[name].status,
        )
    return shown


def spread(found: Metric | Interval, times: float = 1, form: str = ".2f") -> str:
    """A value with its interval, in units of 1/times."""
    return f"{found.value * times:{form}} ({found.low * times:{form}}..{found.high * times:{form}})"


def goals(
    records: dict[str, RunRecord], found: dict[str, dict[str, Metric]], options: argparse.Namespace
) -> list[Goal]:
    """Of float32's answers, of each INT8's quality and speed, and that the right runs were halted."""
    wrong = [name for name, status in EXPECTED.items() if records[name].status != status]
    made = [Goal(what="runs with another verdict", value=len(wrong), at_most=0, unit="", detail=", ".join(wrong))]
    differing = (1 - found["onnxruntime_float32"]["top1_agreement"].value) * 100
    made.append(Goal(what="float32: answers that differ from torch's", value=differing, at_most=0, unit="%"))
    for name, ratios in SPEED.items():
        made += int8_goals(name, found[name], ratios, options)
    return made


def int8_goals(
    name: str, metrics: dict[str, Metric], ratios: tuple[float, float], options: argparse.Namespace
) -> list[Goal]:
    """Accuracy lost, answers changed, and the time that a batch takes of the float graph's, at both batch sizes."""
    change = metrics["accuracy_top1"].change
    assert change is not None
    changed = (1 - metrics["top1_agreement"].value) * 100
    quality = [
        Goal(what=f"{name}: accuracy lost", value=-change.value * 100, at_most=options.goal_points, unit="points"),
        Goal(what=f"{name}: changed answers", value=changed, at_most=100 - options.goal_agreement, unit="%"),
    ]
    speeds = [(batch, metrics[key], goal) for (batch, key), goal in zip(BATCHES, ratios, strict=True)]
    return quality + [
        Goal(
            what=f"{name}: time at batch {batch} against float",
            value=1 / ratio.value,
            at_most=1 / goal,
            unit="",
            detail=f"{spread(ratio)}x, goal {goal}x",
        )
        for batch, ratio, goal in speeds
    ]


if __name__ == "__main__":
    sys.exit(main())
