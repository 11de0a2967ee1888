"""What a teacher is worth: the same student with and without it over several seeds, paired, and its speed.

    python -m bench.distill [CONFIG]

Each seed trains a teacher of its own and three students of the same size, start and number of steps: one that learns
from the teacher, one from the same few labels alone, one from every label. Speed is against the teacher in float32 in
ONNX Runtime, in alternation, at batch 1. `--quick` leaves speed out: it needs an idle machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from scipy import stats

from bench._results import Goal, finish, parser_of, terminal
from pipelines import plan
from pipelines.data.reading import read_data
from pipelines.errors import BudgetExceeded
from pipelines.launch import workshop
from pipelines.measurers import measurer_of
from pipelines.measures import Interval
from pipelines.measuring_images import ImageMeasurer
from pipelines.parsing import parse
from pipelines.pipeline import Pipeline
from pipelines.progress import Silent
from pipelines.sessions import Subject
from stages.base import ROOT, Artifact
from targets.onnxruntime import Onnxruntime

CONFIG = ROOT / "configs/digits/onnxruntime_distilled.yaml"
TEACHER_CONFIG = ROOT / "configs/digits/onnxruntime_int8.yaml"
STUDENTS = {
    "with the teacher": (),
    "the same labels alone": ("steps.distill.logits=0",),
    "every label alone": ("steps.distill.logits=0", "steps.distill.labelled=null"),
}
PLAIN = ("evaluation.latency=null", "budgets=[{metric: accuracy_top1, max_regression: 0.05}]")  # and none on speed


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-distill-") as folder:
        runs = [Seed.run(seed, Path(folder), options) for seed in range(options.seeds)]
        faster = None if options.quick else speed(Path(folder), options)
    changes = {name: spread([run.accuracy[name] - run.accuracy["teacher"] for run in runs]) for name in STUDENTS}
    int8 = spread([run.int8 - run.accuracy["teacher"] for run in runs])
    best, *others = STUDENTS
    gains = {name: spread([run.accuracy[best] - run.accuracy[name] for run in runs]) for name in others}
    terminal().print(table(runs, changes, gains, int8))
    goals = [
        Goal(what="accuracy lost to the teacher", value=-changes[best].value, at_most=options.lost, unit="points"),
        Goal(what="less than without the teacher", value=-gains[others[0]].value, at_most=-1, unit="points"),
        Goal(what="accuracy lost, INT8", value=-int8.value, at_most=options.lost, unit="points"),
    ]
    if faster:
        goals.append(Goal(what="latency against the teacher's", value=1 / faster.value, at_most=0.5, unit="x"))
    details: dict[str, JsonValue] = {
        "n": options.seeds,
        "accuracy": [{**run.accuracy, "int8": run.int8} for run in runs],
        "changes": {name: item.model_dump() for name, item in changes.items()},
        "gains": {name: item.model_dump() for name, item in gains.items()},
        "speed_ratio": faster.model_dump() if faster else None,
    }
    return finish(options.results, "distill", "Distilled digits", goals, details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG)
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--lost", type=float, default=1.0, help="points that the student may be behind its teacher")
    parser.add_argument("--quick", action="store_true", help="no speed")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


@dataclass(frozen=True)
class Seed:
    """Accuracies in percent on the evaluation images: of the teacher, of each student, of the INT8 one at the end."""

    accuracy: dict[str, float]
    int8: float

    @classmethod
    def run(cls, seed: int, scratch: Path, options: argparse.Namespace) -> Seed:
        """Every student of a seed, in the user's own store."""
        found: dict[str, float] = {}
        last = float("nan")
        for name, overrides in STUDENTS.items():
            Console(stderr=True).print(f"seed {seed}, {name} ...")
            own = (f"seed={seed}", f"threads={options.threads}", *PLAIN, *overrides)
            reports = [record.report for record in ran(options.config, own, scratch).history.records if record.report]
            values = [report.metrics["accuracy_top1"].value * 100 for report in reports]
            found |= {"teacher": values[0], name: values[1]}
            last = values[-1] if not overrides else last
        return cls(found, last)


def ran(config: Path, overrides: Sequence[str], scratch: Path) -> Pipeline:
    """A run to its end, or to where its budgets halted it."""
    loaded = parse(config, overrides)
    pipeline = Pipeline(loaded, plan.check(loaded), workshop(loaded, scratch, Silent()))
    with suppress(BudgetExceeded):
        pipeline.run()
    return pipeline


def speed(scratch: Path, options: argparse.Namespace) -> Interval:
    """The teacher's time over the student's, both float32 in ONNX Runtime, at the first batch size."""
    own = (f"threads={options.threads}",)
    student, teacher = (ran(config, (*own, *PLAIN), scratch) for config in (options.config, TEACHER_CONFIG))
    baseline, candidate = (Subject(_optimized(pipeline), Onnxruntime()) for pipeline in (teacher, student))
    loaded = parse(options.config, own)
    shop = workshop(loaded, scratch, Silent())
    data = read_data(loaded, shop.store, shop.home / "data", shop.progress)
    with measurer_of(data, loaded.config, shop, baseline) as measurer:
        assert isinstance(measurer, ImageMeasurer)
        return measurer.timed(candidate, baseline).batches[0].ratio(0)


def _optimized(pipeline: Pipeline) -> Artifact:
    [record] = [record for record in pipeline.history.records if record.stage == "optimize_onnx"]
    store = pipeline.workshop.store
    assert record.artifact is not None
    return store.artifact(store.find(record.artifact))


def spread(values: Sequence[float]) -> Interval:
    """The mean over seeds, and its 95% interval by Student's t."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    width = error * float(stats.t.ppf(0.975, len(values) - 1))
    return Interval(value=mean, low=mean - width, high=mean + width)


def table(runs: list[Seed], changes: dict[str, Interval], gains: dict[str, Interval], int8: Interval) -> Table:
    shown = Table("", "accuracy, mean", "change against the teacher, points", "the taught one's lead, points")
    shown.add_row("teacher", f"{np.mean([run.accuracy['teacher'] for run in runs]):.2f}%", "", "")
    for name, change in changes.items():
        mean = f"{np.mean([run.accuracy[name] for run in runs]):.2f}%"
        shown.add_row(name, mean, points(change), points(gains[name]) if name in gains else "")
    shown.add_row("with the teacher, INT8", f"{np.mean([run.int8 for run in runs]):.2f}%", points(int8), "")
    return shown


def points(found: Interval) -> str:
    return f"{found.value:+.2f} ({found.low:+.2f}..{found.high:+.2f})"


if __name__ == "__main__":
    sys.exit(main())
