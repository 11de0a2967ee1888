"""Several configs over the same source, one by one or beside each other, in one table: what each lost and weighs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipelines import mlflow_process, plan
from pipelines.bars import RichProgress
from pipelines.config import LoadedConfig
from pipelines.errors import ConfigErrors, Interrupted, TapeoutError
from pipelines.fanout.following import followed
from pipelines.fanout.order import Ended, Order
from pipelines.fanout.workers import Fanning, RunnerName, fanning
from pipelines.home import home
from pipelines.launch import Choices, launch, new_folder
from pipelines.mistakes import mistake
from pipelines.outcome import Outcome
from pipelines.parsing import parse
from pipelines.progress import Silent
from pipelines.records import RunRecord, StageRecord
from pipelines.store import Store
from pipelines.tracking.sending import track_comparison
from pipelines.weighing.bits import bits_a_weight
from stages.base import Artifact


def checked(configs: Sequence[Path], overrides: Sequence[str]) -> list[LoadedConfig]:
    """Every config parsed and planned, before any of them is run.

    Raises:
        ConfigErrors: the mistakes of all of them, or two that start from different models or data.
    """
    loaded, mistakes = [], []
    for path in configs:
        try:
            loaded.append(parse(path, overrides))
            plan.check(loaded[-1])
        except ConfigErrors as error:
            mistakes += error.mistakes
    if not mistakes:
        mistakes = [
            mistake(str(other.path), f"`{part}`", f"is another than in {loaded[0].path}", "compare what is comparable")
            for other in loaded[1:]
            for part in ("source", "data.evaluation")
            if _part(other, part) != _part(loaded[0], part)
        ]
    if mistakes:
        raise ConfigErrors(mistakes)
    return loaded


def _part(loaded: LoadedConfig, part: str) -> object:
    config = loaded.config
    return config.source if part == "source" else config.data.evaluation


def compare_runs(
    configs: Sequence[Path],
    overrides: Sequence[str],
    choices: Choices,
    mlflow: bool,
    workers: int | None = 1,
    runner: RunnerName = "threads",
) -> list[Outcome]:
    """Run the configs, `workers` at once; their outcomes, in the configs' order.

    One that is over budget, or that fails, does not keep the others from running.

    Raises:
        UserError: so many cannot run at once.
    """
    loaded = checked(configs, overrides)
    how = fanning(loaded, workers, runner, choices.prefect)
    if how.beside:
        outcomes = _beside(loaded, overrides, choices, mlflow, how)
    else:
        outcomes = _one_by_one(loaded, overrides, choices, mlflow)
    store = Store(home() / "store")
    return [replace(outcome, record=weighed(outcome.record, store)) for outcome in outcomes]


def _one_by_one(
    loaded: Sequence[LoadedConfig], overrides: Sequence[str], choices: Choices, mlflow: bool
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for each in loaded:
        try:
            with mlflow_process.writer() if mlflow else nullcontext() as writer:
                outcomes.append(launch(each.path, overrides, choices, writer))
        except TapeoutError as error:
            outcomes.append(Ended.early(error).outcome(each))
        if isinstance(outcomes[-1].error, Interrupted):
            break
    return outcomes


def _beside(
    loaded: Sequence[LoadedConfig], overrides: Sequence[str], choices: Choices, mlflow: bool, how: Fanning
) -> list[Outcome]:
    from pipelines.fanout.flow import fan_out

    folder = new_folder("compare")
    orders = [
        Order(
            name=each.config.name,
            config=each.path,
            overrides=tuple(overrides),
            dist=choices.dist.absolute(),
            tracked=mlflow,
            cwd=Path.cwd(),
            folder=folder / f"{number}-{each.config.name}",
        )
        for number, each in enumerate(loaded, 1)
    ]
    say = Silent().say if choices.quiet else RichProgress(Console(stderr=True)).say
    say(f"{len(orders)} configs, {how.workers} at once on {how.runner}; a log each in {folder}")
    with followed(orders, say):
        ends = fan_out(home(), orders, how)
    return [ended.outcome(each) for ended, each in zip(ends, loaded, strict=True)]


def weighed(record: RunRecord, store: Store) -> RunRecord:
    """The record with the bits that its measured artifacts hold for each weight."""
    stages = tuple(
        stage.model_copy(update={"bits_a_weight": _bits(stage, store)}) if stage.report else stage
        for stage in record.stages
    )
    return record.model_copy(update={"stages": stages})


def _bits(stage: StageRecord, store: Store) -> float | None:
    if stage.artifact is None or stage.kind is None:
        return None
    folder = store.folder(stage.artifact)
    return bits_a_weight(Artifact(kind=stage.kind, path=folder, digest=stage.artifact))


def track(outcomes: Sequence[Outcome]) -> str:
    """Write the comparison to MLflow; a line that says where it is, or why it is not there."""
    with mlflow_process.writer() as writer:
        tracked = track_comparison([outcome.record for outcome in outcomes], home(), writer)
    if tracked.problem:
        return f"MLflow: {tracked.problem}; the runs themselves are not affected"
    return f"comparison {tracked.mlflow_run} in the MLflow experiment {tracked.experiment}"


def reference_of(record: RunRecord) -> StageRecord | None:
    """What the run's candidates were measured against."""
    return next((stage for stage in record.stages if stage.report and stage.role == "reference"), None)


def result_of(record: RunRecord) -> StageRecord | None:
    """The last stage of a run that was measured: what its row in a comparison shows."""
    measured = [stage for stage in record.stages if stage.report and stage.role != "reference"]
    return measured[-1] if measured else None
