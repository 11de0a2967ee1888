"""How much of what rounding to nearest loses remains with GPTQ and AWQ: same bits, groups and symmetry.

    python -m bench.gptq_awq

Runs configs/smollm2-135m/rtn_int4.yaml, gptq_int4.yaml and awq_int4.yaml on 64 windows of 512 tokens of Wikipedia text.
Every loss is the change of perplexity against the same reference on the same windows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from pydantic import JsonValue

from bench._homes import fetched, new_home, renew_store
from bench._processes import prefect_server
from bench._results import Goal, finish, parser_of, terminal
from bench.mixtures import CONFIGS, loss, quantized, shown

RUNS = {"round to nearest": "rtn_int4", "GPTQ": "gptq_int4", "AWQ": "awq_int4"}


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-gptq-awq-") as folder:
        scratch = Path(folder)
        home = new_home(scratch / "home")
        renew_store(home, fetched(CONFIGS / "rtn_int4.yaml", scratch))
        with prefect_server(scratch / "prefect-server") as api:
            made = {name: quantized(config, home, api) for name, config in RUNS.items()}
    losses = {name: loss(stage) for name, stage in made.items()}
    terminal().print(shown(made))
    facts: dict[str, JsonValue] = {name: stage.facts for name, stage in made.items()}
    details: dict[str, JsonValue] = {"windows": 64, "window": 512, "change": {**losses}, "facts": facts}
    return finish(options.results, "gptq_awq", "GPTQ and AWQ at 4 bits, new_wiki", goals(losses, options), details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--goal-gptq", type=float, default=0.4, help="of what rounding to nearest loses")
    parser.add_argument("--goal-awq", type=float, default=0.6, help="of what rounding to nearest loses")
    return parser.parse_args()


def goals(losses: dict[str, float], options: argparse.Namespace) -> list[Goal]:
    """Of both against rounding to nearest."""
    nearest = losses["round to nearest"]
    return [
        Goal(
            what=f"{name}: loss against rounding to nearest",
            value=losses[name] / nearest,
            at_most=limit,
            unit="x",
            detail=f"{losses[name]:+.2%} / {nearest:+.2%}: {losses[name] / nearest:.3f} x",
        )
        for name, limit in (("GPTQ", options.goal_gptq), ("AWQ", options.goal_awq))
    ]


if __name__ == "__main__":
    sys.exit(main())
