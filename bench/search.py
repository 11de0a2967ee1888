"""`tapeout search` against the exhaustive grid: GGUF types with and without an importance matrix.

    python -m bench.search

Makes and measures every point of configs/smollm2-135m/gguf_search.yaml in one process (the grid), then searches it with
three seeds, each from a store that holds the fetched model alone and within a third of the grid's time (`--minutes`).
Both are wall-clock seconds of this process, with all that they make: import, importance matrix, conversion, reference's
scores. --keep FOLDER keeps the grid and the searches that are done, and takes them up again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from bench._homes import fetched, new_home, renew_store
from bench._results import Goal, finish, parser_of, terminal
from pipelines import plan
from pipelines.launch import run_folder, workshop
from pipelines.pipeline import Pipeline
from pipelines.progress import Silent
from pipelines.searching.asking import Asked, space_of
from pipelines.searching.carrying import carry_out
from pipelines.searching.conducting import conduct
from pipelines.searching.space import checked
from pipelines.searching.trials import CHANGE, SearchRecord
from pipelines.store import Entry
from stages.base import ROOT

CONFIG = ROOT / "configs/smollm2-135m/gguf_search.yaml"
Source = tuple[Entry, Path]
Part = dict[str, Any]


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-search-") as folder:
        keep = options.keep or Path(folder)
        source = fetched(CONFIG, Path(folder))
        grid = kept(keep / "grid.json", lambda: exhaustive(Path(folder), source, options))
        given = grid["seconds"] * options.goal_share
        searches = {
            seed: kept(
                keep / f"seed-{seed}.json", lambda seed=seed: searched(seed, given, Path(folder), source, options)
            )
            for seed in map(int, options.seeds.split(","))
        }
    passed = [point["size_mb"] for point in grid["points"] if point["change"] <= options.budget]
    best = min(passed)
    found = {seed: within(part, best * (1 + options.goal_size_percent / 100)) for seed, part in searches.items()}
    terminal().print(shown(grid, options.budget), compared(grid, searches, found, best))
    details: dict[str, JsonValue] = {
        "grid": grid,
        "searches": {str(k): v for k, v in searches.items()},
        "best_mb": best,
    }
    return finish(options.results, "search", "Search against the grid", goals(grid, searches, best, options), details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", default="1,2,3", help="with commas between")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, help="folder for the parts that are done")
    parser.add_argument("--budget", type=float, default=0.05, help="relative rise of perplexity that is allowed")
    parser.add_argument("--goal-share", type=float, default=1 / 3, help="of the grid's seconds")
    parser.add_argument("--goal-size-percent", type=float, default=2.0, help="above the grid's best size")
    return parser.parse_args()


def kept(file: Path, make: Callable[[], Part]) -> Part:
    """The part from its file, or made now."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(make(), indent=1))
    part: Part = json.loads(file.read_text())
    return part


def at_home(name: str, scratch: Path, source: Source) -> None:
    """Work in a home whose store holds the fetched model alone."""
    os.environ.pop("TAPEOUT_HOME", None)
    home = new_home(scratch / name)
    renew_store(home, source)
    os.environ["TAPEOUT_HOME"] = str(home)


def exhaustive(scratch: Path, source: Source, options: argparse.Namespace) -> Part:
    """Every point in full, one after the other; seconds of each."""
    at_home("grid", scratch, source)
    begin = time.monotonic()
    space = space_of(CONFIG, (f"threads={options.threads}",), Asked())
    shop = workshop(space.loaded, run_folder(space.loaded), Silent())
    points = []
    with shop.store.in_use():
        for point in checked(space):
            since = time.monotonic()
            carried = carry_out(space.config(point), lambda its: Pipeline(its, plan.check(its), shop))
            found, label = carried.figures, space.label(point)
            change, size = found[CHANGE].value, found["size_bytes"].value / 1e6
            seconds = time.monotonic() - since
            points.append({"label": label, "change": change, "size_mb": size, "seconds": seconds})
            Console(stderr=True).print(f"{label}: {change:+.2%}, {size:.1f} MB, {seconds:.0f} s")
    return {"seconds": time.monotonic() - begin, "points": points, "threads": options.threads}


def searched(seed: int, seconds_given: float, scratch: Path, source: Source, options: argparse.Namespace) -> Part:
    """One search from an empty store, within that time; what it found, and when."""
    at_home(f"seed-{seed}", scratch, source)
    begin = time.monotonic()
    asked = Asked(seed=seed, minutes=seconds_given / 60)
    record = conduct(space_of(CONFIG, (f"threads={options.threads}",), asked), asked, Silent(), None)
    seconds = time.monotonic() - begin
    Console(stderr=True).print(f"seed {seed}: {seconds:.0f} s, {record.stopped}")
    return {"seconds": seconds, "stopped": record.stopped, "trials": trials_of(record)}


def trials_of(record: SearchRecord) -> list[Part]:
    """Each trial with the seconds at which it ended."""
    at, told = 0.0, []
    for trial in record.trials:
        at += trial.seconds
        figures = trial.figures
        told.append({
            "label": trial.label, "verdict": trial.verdict, "look": trial.look, "seconds": trial.seconds, "at": at,
            "change": figures[CHANGE].value if CHANGE in figures else None,
            "size_mb": figures["size_bytes"].value / 1e6 if "size_bytes" in figures else None, "reason": trial.reason,
        })  # fmt: skip
    return told


def within(part: Part, size: float) -> float | None:
    """Seconds until a point of at most that size had passed; None if none did."""
    times = [trial["at"] for trial in part["trials"] if trial["verdict"] == "passed" and trial["size_mb"] <= size]
    return min(times, default=None)


def chosen(part: Part) -> Part:
    """The smallest point that passed."""
    best: Part = min((t for t in part["trials"] if t["verdict"] == "passed"), key=lambda trial: trial["size_mb"])
    return best


def shown(grid: Part, budget: float) -> Table:
    """The grid, smallest first."""
    table = Table("point", "change", "size MB", "seconds", title="grid", title_justify="left")
    for point in sorted(grid["points"], key=lambda point: point["size_mb"]):
        style = "" if point["change"] <= budget else "dim"
        cells = f"{point['change']:+.2%}", f"{point['size_mb']:.1f}", f"{point['seconds']:.1f}"
        table.add_row(point["label"], *cells, style=style)
    return table


def compared(grid: Part, searches: dict[int, Part], found: dict[int, float | None], best: float) -> Table:
    """A row a search."""
    table = Table(
        "seed", "chosen", "MB", "found after s", "whole search s", "of the grid", "in full / early / ruled out"
    )
    for seed, part in searches.items():
        looks = [sum(trial["look"] == look for trial in part["trials"]) for look in ("full", "early", "none")]
        after = "-" if found[seed] is None else f"{found[seed]:.0f}"
        point, share = chosen(part), part["seconds"] / grid["seconds"]
        table.add_row(
            str(seed), point["label"], f"{point['size_mb']:.1f} (grid {best:.1f})", after, f"{part['seconds']:.0f}",
            f"{share:.2f}", " / ".join(map(str, looks)),
        )  # fmt: skip
    return table


def goals(grid: Part, searches: dict[int, Part], best: float, options: argparse.Namespace) -> list[Goal]:
    """Of each seed: size against the grid's best, and the whole search's seconds against the grid's."""
    listed = []
    for seed, part in searches.items():
        over, share = (chosen(part)["size_mb"] / best - 1) * 100, part["seconds"] / grid["seconds"]
        listed += [
            Goal(what=f"seed {seed}: size over best", value=over, at_most=options.goal_size_percent, unit="%"),
            Goal(what=f"seed {seed}: seconds", value=share, at_most=options.goal_share, unit="x",
                 detail=f"{part['seconds']:.0f} of {grid['seconds']:.0f} s: {share:.2f} x"),
        ]  # fmt: skip
    return listed


if __name__ == "__main__":
    sys.exit(main())
