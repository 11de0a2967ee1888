"""How much of what plain Q4_K_M loses remains with an importance matrix, and with a type for each tensor.

    python -m bench.mixtures

Runs configs/smollm2-135m/gguf_q4_k_m.yaml, gguf_q4_k_m_imatrix.yaml and gguf_mixed.yaml on 64 windows of 512 tokens of
Wikipedia text. Every loss is the change of perplexity against the same reference on the same windows.
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
from pipelines.records import StageRecord
from stages.base import ROOT

CONFIGS = ROOT / "configs/smollm2-135m"
RUNS = {"plain": "gguf_q4_k_m", "importance matrix": "gguf_q4_k_m_imatrix", "mixed": "gguf_mixed"}
NEW_WIKI = (
    "data.evaluation={package: bigbench==1.0.0, "
    "file: bigbench/benchmark_tasks/squad_shifts/new_wiki_v1.0.json, "
    "sha256: 428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40, reader: squad}"
)
OVERRIDES = (
    NEW_WIKI,
    "evaluation.perplexity={windows: 64, window: 512, max_windows: 64}",
    "evaluation.speed=null",
    "evaluation.generation=null",
    "budgets=[{metric: perplexity, max_regression: 75%}]",
)


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-mixtures-") as folder:
        scratch = Path(folder)
        home = new_home(scratch / "home")
        renew_store(home, fetched(CONFIGS / "gguf_q4_k_m.yaml", scratch))
        with prefect_server(scratch / "prefect-server") as api:
            made = {name: quantized(config, home, api) for name, config in RUNS.items()}
    losses = {name: loss(stage) for name, stage in made.items()}
    sizes = {name: stage.size_bytes / 1e6 for name, stage in made.items()}
    terminal().print(shown(made))
    details: dict[str, JsonValue] = {"windows": 64, "window": 512, "change": {**losses}, "size_mb": {**sizes}}
    return finish(options.results, "mixtures", "What 4 bits lose, new_wiki", goals(losses, sizes, options), details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--goal-imatrix", type=float, default=0.55, help="of what plain Q4_K_M loses")
    parser.add_argument("--goal-mixed", type=float, default=0.35, help="of what plain Q4_K_M loses")
    return parser.parse_args()


def quantized(config: str, home: Path, api: str) -> StageRecord:
    """The last stage of one config's run, which has to pass."""
    own = variables(home, PREFECT_API_URL=api, PREFECT_HOME=str(home / "prefect"))
    Console(stderr=True).print(f"{config} ...")
    command = [TAPEOUT, "run", str(CONFIGS / f"{config}.yaml"), *OVERRIDES, "--dist", str(home / "dist")]
    run(command, own, home).checked()
    return latest_record(home).stages[-1]


def loss(stage: StageRecord) -> float:
    """Relative change of perplexity against the reference."""
    assert stage.report is not None
    change = stage.report.metrics["perplexity"].relative
    assert change is not None
    return change.value


def shown(made: dict[str, StageRecord]) -> Table:
    """A row a run."""
    table = Table("", "perplexity", "change to the reference", "interval", "same top-1", "KL", "size MB")
    for name, stage in made.items():
        assert stage.report is not None
        found = stage.report.metrics
        change = found["perplexity"].relative
        assert change is not None
        table.add_row(
            name,
            f"{found['perplexity'].value:.4f}",
            f"{change.value:+.2%}",
            f"{change.low:+.2%}..{change.high:+.2%}",
            f"{found['top1_agreement'].value:.1%}",
            f"{found['kl_divergence'].value:.4f}",
            f"{stage.size_bytes / 1e6:.1f}",
        )
    return table


def goals(losses: dict[str, float], sizes: dict[str, float], options: argparse.Namespace) -> list[Goal]:
    """Of both against plain Q4_K_M."""
    plain = losses["plain"]
    limits = {"importance matrix": options.goal_imatrix, "mixed": options.goal_mixed}
    found = [
        Goal(
            what=f"{name}: loss against plain's",
            value=losses[name] / plain,
            at_most=limit,
            unit="x",
            detail=f"{losses[name]:+.2%} / {plain:+.2%}: {losses[name] / plain:.3f} x",
        )
        for name, limit in limits.items()
    ]
    return [*found, Goal(what="mixed: size", value=sizes["mixed"], at_most=sizes["plain"], unit="MB")]


if __name__ == "__main__":
    sys.exit(main())
