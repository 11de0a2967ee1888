"""SIGKILL at random moments of a run, then the run again: the same artifacts, an intact store, nothing left over.

    python -m bench.kill

Each round has a home of its own with nothing in it but the tool environments, so that every step of the run can be hit:
fetching (from a file), converting, publishing, measuring, packaging. Only the orchestrator is killed; its workers and
its MLflow writer have to end by themselves.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from bench._homes import fetched, latest_record, new_home
from bench._processes import TAPEOUT, prefect_server, run, started_by, variables
from bench._results import Goal, finish, parser_of, terminal
from pipelines.records import RunRecord
from pipelines.storage.work import remove
from pipelines.store import Store
from stages.base import ROOT, Frozen

CONFIG = ROOT / "configs/smollm2-135m/gguf_q6_k.yaml"
SMALL = (
    "evaluation.perplexity={windows: 4, window: 128, max_windows: 4}",
    "evaluation.generation={prompts: 1, prompt_tokens: 16, tokens: 8}",
    "evaluation.speed={prompt_tokens: [16], tokens: 8, pairs: 3, max_pairs: 3}",
    "budgets=[{metric: perplexity, max_regression: 100%}]",
)
ORPHAN_LIMIT_S = 5.0


class Round(Frozen):
    """What one kill came to. Times in seconds; `resumed` counts the stages that the second run found in the store."""

    moment_s: float
    published: tuple[str, ...]
    orphans: tuple[str, ...]
    second_s: float
    resumed: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What every round is started with."""

    scratch: Path
    model: Path
    sha256: str
    prefect: str
    api: str | None

    def command(self, home: Path) -> list[str]:
        """The run, with the model from a file."""
        source = f"source={{path: {self.model}, sha256: {self.sha256}}}"
        own = ["--no-prefect"] if self.prefect == "none" else []
        return [TAPEOUT, "run", str(CONFIG), source, *SMALL, "--quiet", *own, "--dist", str(home / "dist")]

    def variables(self, home: Path) -> dict[str, str]:
        """Its environment."""
        server = {"PREFECT_API_URL": self.api} if self.api else {}
        return variables(home, PREFECT_HOME=str(home / "prefect"), **server)


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-kill-") as folder:
        scratch = Path(folder)
        entry, files = fetched(CONFIG, scratch)
        model, sha256 = next(files.rglob("*.gguf")), str(entry.facts["sha256"])
        if options.prefect != "server":
            return campaign(Setting(scratch, model, sha256, options.prefect, None), options)
        with prefect_server(scratch / "prefect-server") as api:
            return campaign(Setting(scratch, model, sha256, options.prefect, api), options)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--prefect",
        choices=["server", "temporary", "none"],
        default="server",
        help="one server for all runs, the temporary one that a run starts for itself, or no flow at all",
    )
    return parser.parse_args()


def campaign(setting: Setting, options: argparse.Namespace) -> int:
    """An undisturbed run, then the kills, at moments drawn uniformly over its length."""
    console = Console(stderr=True)
    home = new_home(setting.scratch / "undisturbed")
    seconds = run(setting.command(home), setting.variables(home), setting.scratch).checked().seconds
    expected = latest_record(home)
    remove(home)
    console.print(f"undisturbed: {seconds:.0f} s", highlight=False)
    moments, rounds = random.Random(options.seed), list[Round]()
    while len(rounds) < options.kills:
        home = new_home(setting.scratch / f"round-{len(rounds)}")
        if killed_at(moment := moments.uniform(0, seconds), setting, home):
            rounds.append(judged(moment, setting, home, expected))
            said = "; ".join(rounds[-1].problems) or "the same artifacts"
            console.print(f"kill {len(rounds)} of {options.kills} at {moment:.1f} s: {said}", highlight=False)
        else:
            seconds = moment  # the undisturbed run was slower than this one: moments beyond its end hit nothing
        remove(home)
    return told(seconds, rounds, options)


def killed_at(moment: float, setting: Setting, home: Path) -> bool:
    """Start the run and SIGKILL it at that moment; False when it was over before."""
    with (home / "killed.log").open("wb") as log:
        process = subprocess.Popen(
            setting.command(home), cwd=ROOT, env=setting.variables(home), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
    return False


def judged(moment: float, setting: Setting, home: Path, expected: RunRecord) -> Round:
    """Wait for what the kill left behind, run again, and compare."""
    problems = []
    orphans = remaining(home, ORPHAN_LIMIT_S)
    if orphans:
        problems.append(f"alive {ORPHAN_LIMIT_S:g} s after the kill: {', '.join(orphans.values())}")
    published = published_in(home)
    second = run(setting.command(home), setting.variables(home), setting.scratch)
    if second.code:
        problems.append(f"the second run ended with {second.code}: {second.output[-500:]}")
    else:
        problems += differences(latest_record(home), expected)
    problems += damages(setting, home)
    for pid in orphans:
        kill(pid)
    return Round(
        moment_s=moment,
        published=published,
        orphans=tuple(orphans.values()),
        second_s=second.seconds,
        resumed=0 if second.code else sum(stage.cached for stage in latest_record(home).stages),
        problems=tuple(problems),
    )


def remaining(home: Path, limit_s: float) -> dict[int, str]:
    """The processes of that home that are still alive when the time is up; none as soon as there are none."""
    deadline = time.monotonic() + limit_s
    while (alive := started_by(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def published_in(home: Path) -> tuple[str, ...]:
    """The stages and measurements whose results are in the store, oldest first."""
    if not (home / "store").exists():
        return ()
    return tuple(entry.stage for entry in sorted(Store(home / "store").ls(), key=lambda entry: entry.created))


def differences(found: RunRecord, expected: RunRecord) -> list[str]:
    """Where the second run's artifacts and quality are others than the undisturbed run's."""
    problems = []
    for mine, theirs in zip(found.stages, expected.stages, strict=True):
        if mine.artifact != theirs.artifact:
            problems.append(f"{mine.stage}: artifact {mine.artifact} instead of {theirs.artifact}")
        if mine.report and theirs.report and mine.report.metrics["perplexity"] != theirs.report.metrics["perplexity"]:
            problems.append(f"{mine.stage}: another perplexity")
    if found.mlflow_run is None:
        problems.append("the second run is not in MLflow")
    if found.bundle is None:
        problems.append("the second run has no bundle")
    return problems


def damages(setting: Setting, home: Path) -> list[str]:
    """What is wrong with the store, and what is left in work folders and beside the bundle."""
    verified = run([TAPEOUT, "artifacts", "verify"], setting.variables(home), setting.scratch)
    problems = [] if verified.code == 0 else [f"the store is damaged: {verified.output[-500:]}"]
    for folder in (home / "store/work", home / "store/quarantine"):
        problems += [f"left in {folder.relative_to(home)}: {path.name}" for path in folder.iterdir()]
    bundles = [path.name for path in (home / "dist").iterdir()] if (home / "dist").exists() else []
    return problems + [f"left in dist: {name}" for name in bundles if name.startswith(".")]


def kill(pid: int) -> None:
    """End an orphan: the next rounds should not wait for it."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def told(seconds: float, rounds: Sequence[Round], options: argparse.Namespace) -> int:
    """The table of rounds, and the verdict."""
    table = Table("kill at", "in the store by then", "orphans", "second run", "stages resumed", "outcome")
    for found in sorted(rounds, key=lambda found: found.moment_s):
        last = f"{len(found.published)}, last {found.published[-1]}" if found.published else "nothing"
        outcome = "; ".join(found.problems) or "same artifacts, store intact"
        second = f"{found.second_s:.0f} s"
        table.add_row(f"{found.moment_s:.1f} s", last, str(len(found.orphans)), second, str(found.resumed), outcome)
    terminal().print(table)
    details: dict[str, JsonValue] = {
        "n": len(rounds),
        "seed": options.seed,
        "prefect": options.prefect,
        "undisturbed_s": seconds,
        "rounds": [found.model_dump(mode="json") for found in rounds],
    }
    failed = sum(bool(found.problems) for found in rounds)
    goal = Goal(what="rounds with a problem", value=failed, at_most=0, unit=f"of {len(rounds)}")
    return finish(options.results, "kill", f"SIGKILL at {len(rounds)} random moments", [goal], details)


if __name__ == "__main__":
    sys.exit(main())
