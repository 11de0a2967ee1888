"""Makes and measures one point: a pipeline without bundle and registry, over the store that all points share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.config import LoadedConfig
from pipelines.errors import BudgetExceeded, TapeoutError
from pipelines.fields.evaluation import Evaluation
from pipelines.measures import Interval
from pipelines.pipeline import Pipeline
from pipelines.records import StageRecord
from pipelines.searching.trials import CHANGE

Making = Callable[[LoadedConfig], Pipeline]
"""A pipeline for a config, planned already."""


@dataclass(frozen=True)
class Carried:
    """How far a point came."""

    records: tuple[StageRecord, ...]
    error: TapeoutError | None

    @property
    def over_budget(self) -> bool:
        """Whether a budget ended it."""
        return isinstance(self.error, BudgetExceeded)

    @property
    def figures(self) -> dict[str, Interval]:
        """What was measured of the last artifact that was."""
        measured = [record for record in self.records if record.report and record.role != "reference"]
        return figures(measured[-1]) if measured else {}

    @property
    def evaluation_seconds(self) -> float:
        """Of every stage, the reference's among them: what the store had counts as when it was made."""
        return sum(record.evaluation_seconds for record in self.records)

    @property
    def artifact(self) -> str | None:
        """Digest of the last artifact."""
        return next((record.artifact for record in reversed(self.records) if record.artifact), None)


def figures(record: StageRecord) -> dict[str, Interval]:
    """A stage's metrics with their intervals; the relative change of perplexity beside it."""
    assert record.report is not None
    found = {name: metric.interval for name, metric in record.report.metrics.items()}
    change = record.report.metrics["perplexity"].relative if "perplexity" in found else None
    return found if change is None else {**found, CHANGE: change}


def carry_out(loaded: LoadedConfig, making: Making) -> Carried:
    """Make the point and measure it as its config says; whatever goes wrong with it is its own result.

    Raises:
        KeyboardInterrupt: by ^C; the store is clean.
    """
    pipeline = making(replace(loaded, config=loaded.config.model_copy(update={"promotion": None, "notify": None})))
    try:
        pipeline.run()
    except TapeoutError as error:
        return Carried(tuple(pipeline.history.records), error)
    return Carried(tuple(pipeline.history.records), None)


def early(loaded: LoadedConfig, windows: int) -> LoadedConfig | None:
    """The config with a first look in place of its evaluation: perplexity over few windows, and no budget.

    None where there is no perplexity, or where the look would cost what the whole does.
    """
    settings = loaded.config.evaluation.perplexity
    if settings is None or windows >= settings.windows:
        return None
    few = settings.model_copy(update={"windows": windows, "max_windows": windows})
    nothing = dict.fromkeys(("generation", "speed", "classification", "latency"))
    evaluation = Evaluation(**nothing, perplexity=few, time_limit_s=loaded.config.evaluation.time_limit_s)
    return replace(loaded, config=loaded.config.model_copy(update={"evaluation": evaluation, "budgets": ()}))
