"""How far predictions were off, and whether they can be trusted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from pipelines.planner.calibrations import Calibrations
from pipelines.planner.sightings import Sighting, compared
from stages.base import Frozen

GOALS = {"size_bytes": (0.01, 0.02), "peak_memory_bytes": (0.05, 0.10), "decode_tokens_per_s": (0.15, 0.30),
         "tbt_p50_ms": (0.15, 0.30), "ttft_p50_ms": (0.30, 0.50), "perplexity": (0.1, 0.1)}  # fmt: skip
"""Median and p90 of the absolute relative error; of perplexity in points (PLANNER.md, section 7)."""
POINTS = frozenset({"perplexity"})
CALIBRATED_GOALS = {
    **GOALS,
    "decode_tokens_per_s": (0.08, 0.15),
    "tbt_p50_ms": (0.08, 0.20),
    "ttft_p50_ms": (0.15, 0.30),
}
MARGIN_OF = {"size_bytes": "size", "peak_memory_bytes": "memory", "decode_tokens_per_s": "throughput",
             "tbt_p50_ms": "tbt", "ttft_p50_ms": "ttft"}  # fmt: skip
LEAST_RUNS, TOO_FAR = 5, 2.0


class Row(Frozen):
    """The errors of one metric."""

    metric: str
    n: int
    median: float
    p90: float
    goal_median: float
    goal_p90: float

    @property
    def met(self) -> bool:
        """Whether both are within the goal."""
        return self.median <= self.goal_median and self.p90 <= self.goal_p90

    @property
    def untrusted(self) -> bool:
        """Above twice the goal over at least five runs."""
        return self.n >= LEAST_RUNS and (self.median > TOO_FAR * self.goal_median or self.p90 > TOO_FAR * self.goal_p90)


def sightings_in(runs: Path) -> list[Sighting]:
    """Everything that the runs of a home were predicted and measured at, oldest first; an equal one counts once."""
    found: dict[str, Sighting] = {}
    for file in sorted(runs.glob("*/run.json")):
        for stage in json.loads(file.read_text(encoding="utf-8")).get("stages", []):
            if stage.get("sighting"):
                seen = Sighting.model_validate(stage["sighting"])
                found[f"{stage.get('artifact')}{seen.measured()}"] = seen  # a cached measurement is no new one
    return list(found.values())


def as_logged(sightings: Iterable[Sighting]) -> list[Row]:
    """By what was predicted at the time."""
    listed = list(sightings)
    errors: dict[str, list[float]] = defaultdict(list)
    for seen in listed:
        for item in seen.values:
            errors[_stem(item.name)].append(abs(item.error))
    return _rows(errors, all(seen.calibrated for seen in listed))


def with_calibrations(sightings: Iterable[Sighting], calibrations: Calibrations) -> list[Row]:
    """By what these calibrations predict."""
    return with_calibrations_each((seen, calibrations) for seen in sightings)


def with_calibrations_each(pairs: Iterable[tuple[Sighting, Calibrations]]) -> list[Row]:
    """Each sighting by what its own calibrations predict."""
    errors: dict[str, list[float]] = defaultdict(list)
    fitted = True
    for seen, calibrations in pairs:
        fitted = fitted and bool(calibrations.fitted)
        reached = calibrations.efficiency(seen.hardware, seen.engine, seen.format, seen.engine_version)
        for item in compared(seen, reached, calibrations, seen.measured()):
            errors[_stem(item.name)].append(abs(item.error))
    return _rows(errors, calibrated=fitted)


def margins(rows: Sequence[Row]) -> dict[str, float]:
    """The bands of what is not trusted, widened to what was observed."""
    return {MARGIN_OF[row.metric]: row.p90 for row in rows if row.untrusted and row.metric in MARGIN_OF}


def _stem(name: str) -> str:
    return "ttft_p50_ms" if name.startswith("ttft_p50_ms") else name


def _rows(errors: dict[str, list[float]], calibrated: bool) -> list[Row]:
    goals = CALIBRATED_GOALS if calibrated else GOALS
    return [
        Row(
            metric=name,
            n=len(errors[name]),
            median=median(errors[name]),
            p90=_p90(errors[name]),
            goal_median=goal,
            goal_p90=far,
        )
        for name, (goal, far) in goals.items()
        if errors.get(name)
    ]


def _p90(values: list[float]) -> float:
    """The least value that nine tenths do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-9 * len(ordered) // 10) - 1)]
