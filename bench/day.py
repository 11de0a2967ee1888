"""A scripted day: `tapeout up`, a watched folder, checkpoints that land, and what the registry says in the evening.

    python -m bench.day                 the embedded stack, then a PostgreSQL of its own (apt-get install postgresql)
    python -m bench.day --on sqlite     the embedded stack alone

In the morning a model is champion. Then land a better one, one that INT8 breaks, one that was cut off, and the better
one's bytes under a new name. Every run is a real flow by Prefect's worker, every number is read from the servers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from bench._digit_models import fragile, hesitant, torn, trained, write
from bench._homes import new_home
from bench._postgres import cluster
from bench._registry import Evening, evening
from bench._results import Goal, finish, parser_of
from bench._stand import Stand, digits_config, land, stand, until, watching
from pipelines.environments import Environments
from pipelines.home import home
from pipelines.progress import Silent
from stages.base import Frozen

NAME = "digits-by-day"
STEPS = [{"quantize_onnx": {"examples": 100, "reduce_range": True}}, "onnxruntime"]
DAY_LIMIT_S = 900.0
EXPECTED = {"champion.onnx": "passed", "better.onnx": "passed", "broken.onnx": "halted", "torn.onnx": "aside"}
RUNS = {"FINISHED": 2, "FAILED": 4}
"""The morning's and the better one; the broken one, and the torn one three times."""


class Day(Frozen):
    """What one day came to. Times in seconds."""

    store: str
    ready_s: float
    to_flow_s: dict[str, float]
    day_s: float
    states: dict[str, str]
    reasons: dict[str, str]
    evening: Evening
    flow_runs: int
    problems: tuple[str, ...]


def main() -> int:
    options = arguments()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tapeout-day-") as folder:
        python = Environments(home()).python("onnx", Silent())
        models = made(python, Path(folder) / "models")
        days = [day(store, models, Path(folder)) for store in options.on for _ in range(options.days)]
    for found in days:
        said = "; ".join(found.problems) or "as it should be"
        console.print(f"{found.store}: {said}", highlight=False)
    return told(days, options)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--on", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--days", type=int, default=1, help="on each")
    parser.add_argument("--to-flow-s", type=float, default=10.0, help="goal: from a checkpoint's last byte to its flow")
    parser.add_argument("--ready-s", type=float, default=20.0, help="goal: until `tapeout up` is up")
    return parser.parse_args()


def made(python: Path, folder: Path) -> dict[str, Path]:
    """The day's checkpoints."""
    folder.mkdir()
    good = trained()
    held = {"champion.onnx": hesitant(good, 0.3), "better.onnx": good, "broken.onnx": fragile(good)}
    models = {name: write(python, weights, folder / name) for name, weights in held.items()}
    return models | {
        "torn.onnx": torn(models["better.onnx"], folder / "torn.onnx"),
        "again.onnx": models["better.onnx"],
    }


def day(store: str, models: dict[str, Path], scratch: Path) -> Day:
    """From `tapeout up` to the evening."""
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix=f"{store}-"))
    config = digits_config(folder, NAME, STEPS)
    shutil.copyfile(models["champion.onnx"], folder / "model.onnx")
    with database(store) as options, stand(folder, new_home(folder / "home"), *options) as place:
        return lived(store, place, config, models)


@contextmanager
def database(store: str) -> Iterator[tuple[str, ...]]:
    """The options of `tapeout up`."""
    if store == "sqlite":
        yield ()
        return
    with cluster() as server:
        yield "--postgres", server.url


def lived(store: str, place: Stand, config: Path, models: dict[str, Path]) -> Day:
    """Let the checkpoints land, the next when the last is decided, and look at what came of them."""
    place("deploy", config)
    landed: dict[str, float] = {}
    with watching(place, config):
        begin = datetime.now().timestamp()
        for name, content in models.items():
            landed[name] = land(content, config.parent / "landing", name)
            until(partial(decided, place, name), DAY_LIMIT_S, f"{name} is decided")
        seconds = datetime.now().timestamp() - begin
    known = {checkpoint.name: checkpoint for checkpoint in place.checkpoints(NAME)}
    runs = place.flow_runs()
    states: dict[str, str] = {name: checkpoint.state for name, checkpoint in known.items()}
    found = evening(place, NAME)
    return Day(
        store=store,
        ready_s=place.ready_s,
        to_flow_s=waits(landed, {each.digest: each.name for each in known.values()}, runs),
        day_s=seconds,
        states=states,
        reasons={name: checkpoint.reason for name, checkpoint in known.items() if checkpoint.reason},
        evening=found,
        flow_runs=len(runs),
        problems=tuple(problems(states, found, len(runs))),
    )


def decided(place: Stand, name: str) -> bool:
    """Whether it was seen, and nothing is left to do."""
    return seen(place, name) and settled(place)


def seen(place: Stand, name: str) -> bool:
    """Whether the watch has spoken of it."""
    return f"{name}: " in (place.folder / "watch.log").read_text()


def settled(place: Stand) -> bool:
    """Whether every checkpoint is decided and every flow run has ended."""
    return not any(checkpoint.open for checkpoint in place.checkpoints(NAME)) and all(
        run["state_type"] in ("COMPLETED", "FAILED") for run in place.flow_runs()
    )


def waits(landed: dict[str, float], names: dict[str, str], runs: list[dict[str, object]]) -> dict[str, float]:
    """Seconds from the last byte of a checkpoint to the start of its first flow run, by name."""
    found: dict[str, float] = {}
    for run in runs:
        parameters = run["parameters"]
        assert isinstance(parameters, dict)
        name = names[parameters["checkpoint"]]
        found.setdefault(name, datetime.fromisoformat(str(run["start_time"])).timestamp() - landed[name])
    return found


def problems(states: dict[str, str], found: Evening, flow_runs: int) -> Iterator[str]:
    """Where the evening is another than it should be."""
    if states != EXPECTED:
        yield f"checkpoints {states}"
    if (found.champion, found.previous, found.versions) != ("2", "1", 2):
        yield f"champion {found.champion}, previous {found.previous}, {found.versions} versions"
    if found.runs != RUNS or flow_runs != sum(RUNS.values()):
        yield f"runs {found.runs}, flow runs {flow_runs}"
    told = " ".join(found.description)
    for reason in ("accuracy_top1", "top1_agreement is", "truncated", "there was no champion"):
        if reason not in told:
            yield f"the registry does not say {reason!r}: {told}"
        if reason not in " ".join(found.messages):
            yield f"no run says {reason!r}: {found.messages}"


def told(days: list[Day], options: argparse.Namespace) -> int:
    """The goals, and the file."""
    waited = [seconds for found in days for seconds in found.to_flow_s.values()]
    goals = [
        Goal(what="days that ended otherwise", value=sum(bool(each.problems) for each in days), at_most=0, unit="days"),
        Goal(what="last byte to flow, worst", value=max(waited), at_most=options.to_flow_s, unit="s"),
        Goal(what="`tapeout up`, worst", value=max(each.ready_s for each in days), at_most=options.ready_s, unit="s"),
    ]
    details: dict[str, JsonValue] = {"n": len(waited), "days": [found.model_dump(mode="json") for found in days]}
    return finish(options.results, "day", f"{len(days)} scripted days", goals, details)


if __name__ == "__main__":
    sys.exit(main())
