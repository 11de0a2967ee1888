"""TensorRT for RTX engines of one ONNX model, float16 and INT8, for every GPU generation: sizes and build seconds.

    python -m bench.engines MODEL.onnx [--examples FOLDER]

The model is a float one, best after `optimize_onnx`. `--examples` is an `examples` artifact to calibrate INT8 with;
without it noise of the input's shape does, which changes neither sizes nor seconds. No GPU takes part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.table import Table

from bench._results import Goal, Spread, finish, parser_of, terminal
from pipelines.environments import Environments
from pipelines.home import home
from pipelines.progress import Silent
from stages.base import ROOT

CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0")


def main() -> int:
    options = arguments()
    measured = measure(options)
    rows = measured["engines"]
    terminal().print(table(rows))
    details: dict[str, JsonValue] = {"model": options.model.name, "n": options.rounds, **measured}
    slowest = max(Spread.of(row["build_s"]).median for row in rows)
    goal = Goal(what="slowest engine", value=slowest, at_most=options.goal_build_s, unit="s")
    return finish(options.results, "engines", f"TensorRT for RTX {measured['tensorrt']}", [goal], details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path, help="a float32 ONNX file over images, alone in its folder")
    parser.add_argument("--examples", type=Path, help="folder of an `examples` artifact")
    parser.add_argument("--capabilities", nargs="+", default=CAPABILITIES, help="compute capabilities")
    parser.add_argument("--rounds", type=int, default=5, help="builds of each engine after one that warms up")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--goal-build-s", type=float, default=5.0, help="seconds of the slowest engine")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build in the `tensorrt` environment; what TensorRT says goes to standard error when it fails."""
    python = str(Environments(home()).python("tensorrt", Silent()))
    with tempfile.TemporaryDirectory(prefix="tapeout-engines-") as folder:
        out = Path(folder, "measured.json")
        command = [python, "-m", "bench._engine_builds", str(options.model.absolute()), str(out)]
        command += ["--examples", str(options.examples.absolute())] if options.examples else []
        command += ["--rounds", str(options.rounds), "--threads", str(options.threads)]
        command += ["--capabilities", *options.capabilities]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return measured


def table(rows: list[dict[str, Any]]) -> Table:
    """A row an engine."""
    shown = Table("precision", "capability", "graph MB", "engine MB", "build s", "layers", "multiplied in")
    for row in rows:
        multiplied = ", ".join(f"{name} {count}" for name, count in row["computed_in"].items())
        shown.add_row(
            row["precision"],
            row["compute_capability"],
            f"{row['graph_bytes'] / 1e6:.2f}",
            f"{Spread.of([size / 1e6 for size in row['bytes']]).median:.2f}",
            Spread.of(row["build_s"]).shown(),
            str(row["layers"]),
            multiplied,
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
