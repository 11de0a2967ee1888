"""SIGKILL of the worker, the Prefect server and the MLflow server while checkpoints land: each is processed once.

    python -m bench.kill_services
    python -m bench.kill_services --postgresql      and the database under both servers, a PostgreSQL of its own

One checkpoint lands after the other, the next when the last is decided. During each, at a random moment, one of the
three services is killed; `tapeout up` starts it again. Every fourth checkpoint is over budget, each of the others is
better than all before it. In the end each has to be decided by one recorded run, registered at most once, and the
champion has to be the last that passed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from bench._digit_models import fragile, hesitant, trained, write
from bench._homes import new_home
from bench._postgres import Cluster, cluster
from bench._registry import Evening, evening
from bench._results import Goal, finish, parser_of
from bench._stand import Stand, digits_config, land, stand, until, watching
from pipelines.environments import Environments
from pipelines.home import home
from pipelines.progress import Silent
from stages.base import Frozen

NAME = "digits-killed"
STEPS = [{"quantize_onnx": {"examples": 100, "reduce_range": True}}, "onnxruntime"]
SERVICES = {"worker": b"\0worker\0start\0", "Prefect": b"create_app", "MLflow": b"\0server\0--host"}
DATABASE = "PostgreSQL"
LIMIT_S, FIRST_S = 600.0, 60.0
WORST, BEST = 0.55, 0.12  # share of images that a model answers with 0; a tenth of them are zeros


class Kill(Frozen):
    """One kill. `moment_s` is after the checkpoint's last byte; `decided_s` until it was decided."""

    service: str
    checkpoint: str
    moment_s: float
    decided_s: float
    attempts: int
    state: str


def main() -> int:
    options = arguments()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tapeout-kills-") as scratch:
        folder = Path(scratch)
        models = made(Environments(home()).python("onnx", Silent()), folder, options.kills * len(services(options)))
        config = digits_config(folder, NAME, STEPS)
        shutil.copyfile(models[0], folder / "model.onnx")
        with ExitStack() as opened:
            server = opened.enter_context(cluster()) if options.postgresql else None
            told_of = ("--postgres", server.url) if server else ()
            place = opened.enter_context(stand(folder, new_home(folder / "home"), *told_of))
            place("deploy", config)
            with watching(place, config):
                kills = list(campaign(place, models, server, options, console))
                until(lambda: finished(place), LIMIT_S, "every flow run has ended")
            found, again = evening(place, NAME), Counter(run["state_type"] for run in place.flow_runs())
    for problem in (wrong := list(problems(models[: len(kills) + 1], kills, found))):
        console.print(problem, highlight=False)
    return told(kills, found, dict(again), wrong, options)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each service")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the order")
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--minutes", type=float, default=120.0, help="no kill begins after that long")
    return parser.parse_args()


def made(python: Path, folder: Path, kills: int) -> list[Path]:
    """A first checkpoint, and one for each of so many kills."""
    good, count = trained(), kills + 1
    shares = [WORST - (WORST - BEST) * number / count for number in range(count)]
    weights = [hesitant(good, share) for share in shares]
    held = [fragile(each) if number % 4 == 3 else each for number, each in enumerate(weights)]
    return [write(python, each, folder / f"{number:02}.onnx") for number, each in enumerate(held)]


def services(options: argparse.Namespace) -> list[str]:
    """What is killed."""
    return [*SERVICES, *([DATABASE] if options.postgresql else [])]


def campaign(
    place: Stand, models: list[Path], server: Cluster | None, options: argparse.Namespace, console: Console
) -> Iterator[Kill]:
    """An undisturbed checkpoint, whose time the moments are drawn over, and then a kill during each."""
    drawn, end = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    first, *others = models
    begin = land(first, place.folder / "landing", first.name)
    until(lambda: decided(place, first.name), LIMIT_S, f"{first.name} is decided")
    usual = time.time() - begin
    console.print(f"undisturbed: {usual:.1f} s", highlight=False)
    killed = services(options)
    order = [service for _ in range(options.kills) for service in drawn.sample(killed, len(killed))]
    for service, model in zip(order, others, strict=True):
        if time.monotonic() > end:
            return
        begin, moment = land(model, place.folder / "landing", model.name), drawn.uniform(0, usual)
        time.sleep(moment)
        if service == DATABASE and server:
            server.stop()
            server.start()
        else:
            kill(place, service)
        until(partial(decided, place, model.name), LIMIT_S, f"{model.name} is decided")
        known = next(each for each in place.checkpoints(NAME) if each.name == model.name)
        seconds = time.time() - begin
        console.print(
            f"{model.name}: {service} at {moment:.1f} s, {known.state} after {seconds:.0f} s", highlight=False
        )
        yield Kill(
            service=service,
            checkpoint=model.name,
            moment_s=moment,
            decided_s=seconds,
            attempts=known.attempts,
            state=known.state,
        )


def kill(place: Stand, service: str) -> None:
    """SIGKILL it; wait for it first where it is just being started again."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in children(place.supervisor) if SERVICES[service] in cmdline(pid)]
        return bool(found)

    until(is_there, FIRST_S, f"{service} is there to be killed")
    os.kill(found[0], signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cmdline(pid: int) -> bytes:
    """With zeros between the arguments."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def decided(place: Stand, name: str) -> bool:
    """Whether the watch has seen it, and a run or three failures have decided it."""
    return any(each.name == name and not each.open for each in place.checkpoints(NAME))


def finished(place: Stand) -> bool:
    """Whether no flow run is left that has begun or could; the server may be on its way up."""
    try:
        return all(run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") for run in place.flow_runs())
    except OSError:
        return False


def problems(models: list[Path], kills: list[Kill], found: Evening) -> Iterator[str]:
    """Where a checkpoint was lost, or processed twice."""
    for number, model in enumerate(models):
        should = "halted" if number % 4 == 3 else "passed"
        state = next((each.state for each in kills if each.checkpoint == model.name), "passed")
        if state != should:
            yield f"{model.name} is {state}, not {should}"
    passed = sum(number % 4 != 3 for number in range(len(models)))
    halted = len(models) - passed
    if (found.versions, found.runs.get("FINISHED", 0)) != (passed, passed):
        yield f"{found.versions} versions and {found.runs} runs for {passed} that passed"
    if found.runs.get("RUNNING", 0):
        yield f"{found.runs['RUNNING']} runs of killed workers are shown as running"
    if found.runs.get("FAILED", 0) != halted:
        yield f"{found.runs} runs for {halted} that were halted"
    promoted = sum(text.startswith("promoted: ") for text in found.promotions)
    if promoted != passed:
        yield f"{promoted} promoted of {passed}"
    if found.champion != str(found.versions):
        yield f"champion {found.champion} of {found.versions}"


def told(
    kills: list[Kill], found: Evening, flow_runs: dict[str, int], wrong: list[str], options: argparse.Namespace
) -> int:
    """The verdict and the file."""
    details: dict[str, JsonValue] = {
        "n": len(kills),
        "seed": options.seed,
        "kills": [each.model_dump(mode="json") for each in kills],
        "evening": found.model_dump(mode="json"),
        "flow_runs": {**flow_runs},
        "problems": [*wrong],
    }
    goal = Goal(what="checkpoints or registry otherwise than due", value=len(wrong), at_most=0, unit="problems")
    name = "kill_services_postgresql" if options.postgresql else "kill_services"
    return finish(options.results, name, f"SIGKILL of services, {len(kills)} times", [goal], details)


if __name__ == "__main__":
    sys.exit(main())
