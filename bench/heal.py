"""What healing wins back of what dropping layers lost, on text that neither was chosen nor trained on.

    python -m bench.heal [CONFIG]

Runs configs/smollm2-135m/layers_24.yaml in your own Tapeout home: what is in the store is not made again, and a run
that was killed goes on at its last checkpoint. Perplexity on 64 windows of 512 tokens of Wikipedia text.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import JsonValue
from rich.table import Table

from bench._processes import TAPEOUT
from bench._results import Goal, finish, parser_of, terminal
from bench.mixtures import CONFIGS
from pipelines.records import RunRecord, StageRecord

QUALITY = (
    "evaluation.perplexity={windows: 64, window: 512, max_windows: 64}",
    "evaluation.speed=null",
    "evaluation.generation=null",
)


def main() -> int:
    options = arguments()
    whole, dropped, healed = measured(options)
    lost, left = (perplexity(stage) - perplexity(whole) for stage in (dropped, healed))
    minutes = healed.seconds / 60
    terminal().print(table({"whole": whole, "dropped": dropped, "healed": healed}))
    goals = [
        Goal(
            what="of the perplexity that dropping lost, what healing leaves",
            value=left / lost,
            at_most=options.goal_left,
            unit="x",
            detail=f"{left:.2f} of {lost:.2f}: {1 - left / lost:.1%} won back",
        ),
        Goal(what="healing", value=minutes, at_most=options.goal_minutes, unit="min", detail=f"{minutes:.1f} min"),
    ]
    details: dict[str, JsonValue] = {
        "perplexity": {stage.stage: of(stage) for stage in (whole, dropped, healed)},
        "facts": {**healed.facts},
    }
    return finish(options.results, "heal", "SmolLM2-135M with layers dropped and healed, new_wiki", goals, details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=CONFIGS / "layers_24.yaml")
    parser.add_argument("--goal-left", type=float, default=0.3, help="of the perplexity lost")
    parser.add_argument("--goal-minutes", type=float, default=60, help="that healing takes")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> tuple[StageRecord, StageRecord, StageRecord]:
    """The reference, the model with its layers dropped, and the last stage, of a run that passed or was halted."""
    with tempfile.TemporaryDirectory(prefix="tapeout-heal-") as dist:
        command = [TAPEOUT, "run", str(options.config), *QUALITY, "--json", "--no-mlflow", "--no-prefect"]
        done = subprocess.run([*command, "--dist", dist], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    stages = [stage for stage in RunRecord.model_validate_json(done.stdout).stages if stage.report]
    [dropped] = [stage for stage in stages if stage.stage == "drop_layers"]
    return stages[0], dropped, stages[-1]


def of(stage: StageRecord) -> dict[str, JsonValue]:
    """Its perplexity, as it was measured."""
    assert stage.report is not None
    return stage.report.metrics["perplexity"].model_dump(mode="json")


def perplexity(stage: StageRecord) -> float:
    assert stage.report is not None
    return stage.report.metrics["perplexity"].value


def table(stages: dict[str, StageRecord]) -> Table:
    """A row a model."""
    shown = Table("", "perplexity, 95%", "change, 95%", "minutes")
    for name, stage in stages.items():
        assert stage.report is not None
        found = stage.report.metrics["perplexity"]
        change = found.relative
        told = f"{change.value:+.1%} ({change.low:+.1%}..{change.high:+.1%})" if change else ""
        shown.add_row(name, f"{found.value:.2f} ({found.low:.2f}..{found.high:.2f})", told, f"{stage.seconds / 60:.1f}")
    return shown


if __name__ == "__main__":
    sys.exit(main())
