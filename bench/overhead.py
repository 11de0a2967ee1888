"""What Tapeout costs: `tapeout run` against the same tools by hand, a fully cached run, memory, `--help`.

    python -m bench.overhead

Both sides de-quantize, convert, quantize and evaluate the same model on the same token windows and prompts with the
same number of timed generations, in alternation: by hand is bench/by_hand.sh in the same tool environments. Before
each `tapeout run` the store holds nothing but the fetched source; a Prefect server runs, and MLflow's SQLite file
was set up by an untimed first run, as on a machine in use (`--new-mlflow` times its set-up, too).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from bench._homes import fetched, latest_record, new_home, renew_store
from bench._processes import TAPEOUT, Ran, prefect_server, run, timed, variables
from bench._results import Goal, Spread, finish, parser_of
from pipelines.data.datasets import documents
from pipelines.environments import Environments
from pipelines.home import home
from pipelines.parsing import parse
from pipelines.progress import Silent
from pipelines.store import Entry
from stages.base import ROOT

CONFIG = ROOT / "configs/smollm2-135m/gguf_q6_k.yaml"
SAME_PERPLEXITY = 5e-4
SETTINGS = {
    "windows": ("WINDOWS", ("perplexity.windows", "perplexity.max_windows")),
    "window": ("WINDOW", ("perplexity.window",)),
    "prompts": ("PROMPTS", ("generation.prompts",)),
    "prompt_tokens": ("PROMPT_TOKENS", ("generation.prompt_tokens",)),
    "tokens": ("TOKENS", ("generation.tokens",)),
    "speed_prompt_tokens": ("SPEED_PROMPT_TOKENS", ()),
    "speed_tokens": ("SPEED_TOKENS", ("speed.tokens",)),
    "speed_pairs": ("PAIRS", ("speed.pairs", "speed.max_pairs")),
}
"""An option of this program, its variable by hand, its fields under `evaluation`."""


@dataclass(frozen=True)
class Sides:
    """Everything that both sides are started with."""

    options: argparse.Namespace
    scratch: Path
    home: Path
    source: tuple[Entry, Path]
    text: Path
    api: str

    def tapeout(self, *more: str) -> Ran:
        """One `tapeout run` in the home as it is."""
        command = [TAPEOUT, "run", str(self.options.config), *self._overrides(), *more, "--dist", str(self.dist)]
        own = variables(self.home, PREFECT_API_URL=self.api, PREFECT_HOME=str(self.scratch / "prefect-client"))
        return run(command, own, self.scratch).checked()

    def fresh(self, *more: str) -> Ran:
        """One `tapeout run` with nothing in the store but the source, and no bundle yet."""
        renew_store(self.home, self.source)
        shutil.rmtree(self.dist, ignore_errors=True)
        if self.options.new_mlflow:
            shutil.rmtree(self.home / "mlflow", ignore_errors=True)
        return self.tapeout(*more)

    def by_hand(self) -> Ran:
        """The shell script, in an empty folder."""
        work = self.scratch / "by-hand"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        environments = Environments(home())
        own = {f"{name.upper()}": str(environments.python(name, Silent())) for name in ("torch", "gguf")}
        own |= {variable: str(getattr(self.options, name)) for name, (variable, _) in SETTINGS.items()}
        model = next(self.source[1].rglob("*.gguf"))
        command = [str(ROOT / "bench/by_hand.sh"), str(model), self.options.type, str(self.text), str(work)]
        return run(command, variables(self.home, **own), self.scratch).checked()

    @property
    def dist(self) -> Path:
        """Where bundles go."""
        return self.scratch / "dist"

    def _overrides(self) -> list[str]:
        found = [
            f"evaluation.{place}={getattr(self.options, name)}"
            for name, (_, places) in SETTINGS.items()
            for place in places
        ]
        wide = "budgets=[{metric: perplexity, max_regression: 100%}]"  # judged as ever, and never stops the run
        prompt = f"evaluation.speed.prompt_tokens=[{self.options.speed_prompt_tokens}]"
        return [
            *found,
            prompt,
            "evaluation.speed.time_limit_s=3600",
            f"steps.quantize_gguf.type={self.options.type}",
            wide,
        ]


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-overhead-") as folder:
        scratch = Path(folder)
        source, text = fetched(options.config, scratch), evaluation_text(options.config, scratch)
        with prefect_server(scratch / "prefect-server") as api:
            sides = Sides(options, scratch, new_home(scratch / "home"), source, text, api)
            return measure(sides)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="steps import_gguf, gguf, quantize_gguf")
    parser.add_argument("--type", default="q6_k")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of whole runs")
    parser.add_argument("--cached", type=int, default=5, help="fully cached runs")
    parser.add_argument("--helps", type=int, default=11, help="runs of `tapeout --help`")
    parser.add_argument("--new-mlflow", action="store_true", help="a new MLflow database for each run")
    for name, default in zip(SETTINGS, (16, 512, 8, 64, 32, 128, 32, 10), strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--goal-ratio", type=float, default=1.15)
    parser.add_argument("--goal-cached-s", type=float, default=3.0)
    parser.add_argument("--goal-memory-mb", type=float, default=400)
    parser.add_argument("--goal-help-s", type=float, default=0.3)
    return parser.parse_args()


def evaluation_text(config: Path, scratch: Path) -> Path:
    """The config's evaluation text as a file: by hand it would be one."""
    loaded = parse(config)
    path = scratch / "text.txt"
    found = documents(loaded.config.data.evaluation, loaded.folder, home() / "data", Silent())
    path.write_text(found.text, encoding="utf-8")
    return path


def measure(sides: Sides) -> int:
    options, console = sides.options, Console(stderr=True)
    console.print("an untimed run sets MLflow up and warms the disk's cache")
    sides.fresh("evaluation.speed=null", "evaluation.generation=null", "evaluation.perplexity.window=64")
    tapeouts, hands = [], []
    for number in range(options.pairs):
        tapeouts.append(sides.fresh())
        hands.append(sides.by_hand())
        seconds = f"tapeout {tapeouts[-1].seconds:.1f} s, by hand {hands[-1].seconds:.1f} s"
        console.print(f"pair {number + 1} of {options.pairs}: {seconds}", highlight=False)
    same = same_perplexities(sides, hands[-1].output)
    cached = [sides.tapeout() for _ in range(options.cached)]
    if not all(stage.cached for stage in latest_record(sides.home).stages):
        raise SystemExit("the second run of the same config made something again")
    helps = [timed([TAPEOUT, "--help"], variables(sides.home)) for _ in range(options.helps + 1)][1:]
    ratio = Spread.of([mine.seconds / theirs.seconds for mine, theirs in zip(tapeouts, hands, strict=True)])
    runs = {"tapeout": Spread.of([ran.seconds for ran in tapeouts]), "by hand": Spread.of([r.seconds for r in hands])}
    return told(sides, runs, ratio, [Spread.of([ran.seconds for ran in cached]), Spread.of(helps)], tapeouts, same)


def same_perplexities(sides: Sides, output: str) -> dict[str, JsonValue]:
    """Perplexities of both sides by stage.

    Raises:
        SystemExit: they differ, so that the two sides did not do the same work.
    """
    by_hand = [float(found) for found in re.findall(r": perplexity ([0-9.]+)", output)]
    mine = [stage.report.metrics["perplexity"].value for stage in latest_record(sides.home).stages if stage.report]
    for ours, theirs in zip(mine, by_hand, strict=True):
        if abs(ours / theirs - 1) > SAME_PERPLEXITY:
            raise SystemExit(f"the sides do not measure the same: perplexity {mine} against {by_hand} by hand")
    return {"tapeout": [*mine], "by_hand": [*by_hand]}


def told(
    sides: Sides,
    runs: dict[str, Spread],
    ratio: Spread,
    short: list[Spread],
    tapeouts: list[Ran],
    same: dict[str, JsonValue],
) -> int:
    options, (cached, helps) = sides.options, short
    peaks = {role: max(ran.peaks.get(role, 0) for ran in tapeouts) / 1e6 for role in ("main", "mlflow writer")}
    goals = [
        Goal(
            what="tapeout run / by hand",
            value=ratio.median,
            at_most=options.goal_ratio,
            unit="x",
            detail=f"{ratio.shown('.3f')}\n{runs['tapeout'].median:.1f} s against {runs['by hand'].median:.1f} s",
        ),
        Goal(
            what="fully cached run", value=cached.median, at_most=options.goal_cached_s, unit="s", detail=cached.shown()
        ),
        Goal(what="peak memory, orchestrator", value=peaks["main"], at_most=options.goal_memory_mb, unit="MB"),
        Goal(
            what="peak memory, MLflow writer", value=peaks["mlflow writer"], at_most=options.goal_memory_mb, unit="MB"
        ),
        Goal(
            what="tapeout --help", value=helps.median, at_most=options.goal_help_s, unit="s", detail=helps.shown(".3f")
        ),
    ]
    details: dict[str, JsonValue] = {
        "n": options.pairs,
        "settings": {name: getattr(options, name) for name in SETTINGS} | {"new_mlflow": options.new_mlflow},
        "seconds": {name: spread.model_dump(mode="json") for name, spread in runs.items()},
        "ratio": ratio.model_dump(mode="json"),
        "cached_s": cached.model_dump(mode="json"),
        "help_s": helps.model_dump(mode="json"),
        "peak_mb": {**peaks},
        "perplexity": same,
    }
    return finish(
        options.results, "overhead", f"Overhead of Tapeout, {options.type}, {options.pairs} pairs", goals, details
    )


if __name__ == "__main__":
    sys.exit(main())
