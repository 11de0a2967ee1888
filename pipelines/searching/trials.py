"""What a search finds out of a point, and what it leaves: the JSON of `tapeout search --json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from pipelines.measures import DeviceFacts, Interval, kind_of
from stages.base import Frozen

Verdict = Literal["passed", "over budget", "pruned", "failed"]
Look = Literal["none", "early", "full"]
CHANGE = "perplexity_change"


class Forecast(Frozen):
    """What the planner expects of a point before it is made; null where it has no formula."""

    size_bytes: float | None = None
    tbt_p50_ms: float | None = None
    perplexity_change: float | None = Field(None, description="relative rise, by a prior or by earlier gates")
    prior: str = Field("", description="where that comes from")


class Trial(Frozen):
    """One point: ruled out, looked at early, or measured in full."""

    number: int
    point: dict[str, JsonValue]
    label: str
    verdict: Verdict
    look: Look = "none"
    reason: str = Field("", description="why it was pruned, or went over budget, or failed")
    forecast: Forecast = Forecast()
    figures: dict[str, Interval] = Field({}, description="metrics with their intervals, and perplexity_change")
    artifact: str | None = Field(None, description="digest of the last step's artifact")
    seconds: float = Field(0.0, description="that the search spent on it, little where the store had it")
    evaluation_seconds: float = Field(0.0, description="that its measurements took when they were made")

    def value(self, metric: str) -> float | None:
        """A measured figure, turned so that less is better."""
        found = self.figures.get(metric)
        return None if found is None else sign(metric) * found.value


class SearchRecord(Frozen):
    """A whole search."""

    schema_version: Literal[1] = 1
    name: str
    config_path: str
    config_digest: str
    config_text: str
    started: str = Field("", description="UTC, ISO 8601")
    status: Literal["found", "nothing within budget", "interrupted"]
    stopped: str = Field("", description="why it went no further")
    space: int = Field(description="points of the space")
    right: int = Field(description="of them, configs that can run and are not left out")
    objectives: tuple[str, ...]
    seed: int
    seconds: float = Field(0.0, description="of this search, earlier sessions of it included")
    trials: tuple[Trial, ...] = ()
    front: tuple[int, ...] = Field((), description="numbers of the trials that no other beats in everything")
    chosen: int | None = Field(None, description="the passed trial that is best in the first objective")
    chosen_config: str = Field("", description="its YAML")
    device: DeviceFacts
    folder: Path | None = Field(None, description="study, plot and chosen config")
    mlflow_run: str | None = None

    def trial(self, number: int) -> Trial:
        """By number."""
        return next(item for item in self.trials if item.number == number)

    def count(self, verdict: Verdict) -> int:
        """How many trials ended so."""
        return sum(item.verdict == verdict for item in self.trials)


def sign(metric: str) -> int:
    """-1 for a metric of which more is better."""
    kind = kind_of(metric)
    return -1 if kind is not None and kind.higher_is_better else 1


def in_full(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were measured in full."""
    return [item for item in trials if item.look == "full" and item.figures]


def best(trials: Sequence[Trial], objectives: tuple[str, ...]) -> Trial | None:
    """Of what passed in full, the best in the first objective; the next ones decide between equals."""
    passed = [item for item in in_full(trials) if item.verdict == "passed"]

    def rank(item: Trial) -> tuple[float, ...]:
        return tuple(float("inf") if (value := item.value(name)) is None else value for name in objectives)

    return min(passed, key=rank, default=None)


def front(trials: Sequence[Trial], axes: tuple[str, ...]) -> list[Trial]:
    """What passed in full and no other of it beats: at least as good on every axis, better on one."""
    passed = [item for item in in_full(trials) if item.verdict == "passed"]
    places = {item.number: [item.value(axis) for axis in axes] for item in passed}
    kept = [item for item in passed
            if not any(dominates(places[other.number], places[item.number]) for other in passed)]  # fmt: skip
    return sorted(kept, key=lambda item: [value or 0.0 for value in places[item.number]])


def dominates(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Whether `one` is nowhere worse and somewhere better. Less is better; what is unknown compares with nothing."""
    return no_worse(one, other) and list(one) != list(other)


def no_worse(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Whether `one` is nowhere worse. Less is better; what is unknown compares with nothing."""
    return all(a is not None and b is not None and a <= b for a, b in zip(one, other, strict=True))
