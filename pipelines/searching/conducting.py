"""Sets a search up, carries it through, and leaves its record, plot and chosen config in Tapeout's home."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines import plan
from pipelines.config import LoadedConfig
from pipelines.errors import UserError
from pipelines.home import try_lock
from pipelines.keys import evaluation_digest
from pipelines.launch import run_folder, workshop
from pipelines.mlflow_process import WriterProcess
from pipelines.pipeline import Pipeline
from pipelines.progress import Progress
from pipelines.searching import results
from pipelines.searching.asking import Asked, objectives_of
from pipelines.searching.forecast import Forecaster
from pipelines.searching.looking import Looking
from pipelines.searching.points import Points
from pipelines.searching.ruling import Ruling
from pipelines.searching.search import Searcher
from pipelines.searching.space import Point, Space, checked
from pipelines.searching.study import Study
from pipelines.searching.trials import SearchRecord, best, front
from pipelines.tracking.lines import Searching
from pipelines.tracking.sending import SearchTracker
from pipelines.workshop import Workshop

RECORD, PLOT, CHOSEN, STUDY = "search.json", "front.png", "chosen.yaml", "study.log"
Making = Callable[[LoadedConfig, Workshop], Pipeline]


def _pipeline(loaded: LoadedConfig, shop: Workshop) -> Pipeline:
    return Pipeline(loaded, plan.check(loaded), shop)


def conduct(
    space: Space,
    asked: Asked,
    progress: Progress,
    writer: WriterProcess | None,
    making: Making = _pipeline,
    shop: Workshop | None = None,
) -> SearchRecord:
    """Search the space to its end, whatever that is.

    Raises:
        UserError: the space is none, or another search of it is under way.
    """
    right = checked(space)
    shop = shop or workshop(space.loaded, run_folder(space.loaded), progress)
    objectives = objectives_of(space.loaded.config, space.settings)
    folder = shop.home / "searches" / f"{space.loaded.config.name}-{_key(space, objectives, shop)[:12]}"
    with try_lock(folder / "lock") as free:
        if not free:
            raise UserError(
                "another search of this config and seed is under way", "wait for it, or give another --seed"
            )
        if asked.afresh:
            (folder / STUDY).unlink(missing_ok=True)
        shop.store.sweep()
        study = Study(folder / STUDY, space.settings, objectives)
        return _carried_through(space, right, objectives, study, shop, folder, writer, making)


def _key(space: Space, objectives: tuple[str, ...], shop: Workshop) -> str:
    """What a study is of: config, space, seed, measurements and machine."""
    settings = space.settings.model_dump(mode="json", exclude={"trials", "minutes"})
    tree = {**space.tree, "search": settings, "objectives": list(objectives)}
    parts = [json.dumps(tree, sort_keys=True), evaluation_digest(), shop.device.identity]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _carried_through(
    space: Space,
    right: list[Point],
    objectives: tuple[str, ...],
    study: Study,
    shop: Workshop,
    folder: Path,
    writer: WriterProcess | None,
    making: Making,
) -> SearchRecord:
    loaded, begin, before = space.loaded, time.monotonic(), float(str(study.note.get("seconds", 0.0)))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    told = study.note.get("mlflow_run")
    opening = Searching(
        name=loaded.config.name,
        config_path=str(loaded.path),
        config_text=loaded.text,
        started=started,
        home=shop.home.absolute(),
        resumes=str(told) if told else None,
    )
    tracker = SearchTracker(opening, writer)
    perplexity = loaded.config.evaluation.perplexity
    looking = Looking(
        making=lambda its: making(its, shop),
        ruling=Ruling(loaded.config.budgets, objectives),
        windows=perplexity.windows if perplexity else 0,
        first_windows=space.settings.first_windows if perplexity else None,
    )
    searcher = Searcher(
        settings=space.settings,
        points=Points(space, right),
        study=study,
        looking=looking,
        say=shop.progress.say,
        tried=tracker.trial,
    )
    status: Literal["interrupted", ""] = ""
    with shop.store.in_use():
        try:
            source = making(loaded, shop).chain.fetch()
            searcher.points.forecaster = Forecaster.of(source.path, shop.home)
            _say_where(space, searcher, shop.progress)
            searcher.run()
        except KeyboardInterrupt:
            status, searcher.stopped = "interrupted", "interrupted: the same command goes on from here"
    seconds = before + time.monotonic() - begin
    study.set_note("seconds", seconds)
    record = _record(space, searcher, status, started, seconds, shop, folder)
    _leave(record, searcher.ruling.allowed, folder)
    tracked = tracker.finish(record, folder)
    if tracked.problem:
        shop.progress.say(f"MLflow: {tracked.problem}; the search itself is not affected")
    if tracked.mlflow_run:
        study.set_note("mlflow_run", tracked.mlflow_run)
    return record.model_copy(update={"mlflow_run": tracked.mlflow_run})


def _say_where(space: Space, searcher: Searcher, progress: Progress) -> None:
    known = len(searcher.trials)
    resumed = f", {known} of them tried in an earlier session" if known else ""
    blind = "" if searcher.points.forecaster else "; the planner has no formulas for this model and rules nothing out"
    progress.say(f"{len(searcher.points)} points of {space.size}{resumed}{blind}")


def _record(
    space: Space,
    searcher: Searcher,
    status: Literal["interrupted", ""],
    started: str,
    seconds: float,
    shop: Workshop,
    folder: Path,
) -> SearchRecord:
    trials, objectives = tuple(searcher.trials), searcher.ruling.objectives
    chosen = best(trials, objectives)
    axes = results.axes_of(trials)
    found: Literal["found", "nothing within budget"] = "found" if chosen else "nothing within budget"
    return SearchRecord(
        name=space.loaded.config.name,
        config_path=str(space.loaded.path),
        config_digest=space.loaded.digest,
        config_text=space.loaded.text,
        status=status or found,
        stopped=searcher.stopped,
        space=space.size,
        right=len(searcher.points),
        objectives=objectives,
        seed=space.settings.seed,
        trials=trials,
        front=tuple(trial.number for trial in front(trials, axes)),
        chosen=chosen.number if chosen else None,
        chosen_config=space.config(chosen.point).text if chosen else "",
        device=shop.device,
        folder=folder,
        started=started,
        seconds=seconds,
    )


def _leave(record: SearchRecord, limit: float | None, folder: Path) -> None:
    (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    if png := results.picture(record, limit):
        (folder / PLOT).write_bytes(png)
    if record.chosen_config:
        results.write_config(record.chosen_config, Path(record.config_path), folder / CHOSEN)
