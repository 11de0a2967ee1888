"""Fits the efficiencies to measured runs: Huber loss on the logarithm of the error, part of the runs held out."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from pipelines.planner.calibrations import ANY_FORMAT, Calibrations, Fitted, MeasuredQuality, major
from pipelines.planner.efficiency import Efficiency, default
from pipelines.planner.sightings import USUAL_WORKING_BYTES, Sighting, predictions

LEAST_RUNS = 3
PRIOR_RUNS = 3
HELD_OUT = 0.2
HUBER = 0.1  # beyond an error of 10% a sample counts linearly
ENGINE, FORMAT = ("bandwidth", "compute", "step_s", "server_s"), ("bandwidth", "compute")
LEAST_S = 1e-5
TIMED = ("tbt_p50_ms", "ttft_p50_ms")


def split(sightings: Sequence[Sighting], share: float = HELD_OUT) -> tuple[list[Sighting], list[Sighting]]:
    """Runs to fit, and runs to judge by, in an order that their contents alone decide."""
    ordered = sorted(sightings, key=lambda seen: hashlib.sha256(seen.model_dump_json().encode()).hexdigest())
    held = round(len(ordered) * share)
    return ordered[held:], ordered[:held]


def fit(sightings: Iterable[Sighting]) -> Calibrations:
    """Efficiencies by machine and engine's major version, and by format within them; the median of what gates measured.

    An engine's fit is weighed n/(n+3) against defaults that were compared with measurements elsewhere; guesses get no
    weight. A format's is weighed n/(n+3) against its engine's.
    """
    groups: dict[tuple[str, str, str], list[Sighting]] = defaultdict(list)
    listed = list(sightings)
    for seen in listed:
        groups[seen.hardware.key, seen.engine, major(seen.engine_version)].append(seen)
    fitted = [item for group in groups.values() if len(group) >= LEAST_RUNS for item in _engine(group)]
    return Calibrations(fitted=tuple(fitted), qualities=tuple(_qualities(listed)))


def _engine(group: list[Sighting]) -> list[Fitted]:
    first = group[0]
    start = default(first.hardware, first.engine, first.format)
    weight = len(group) / (len(group) + PRIOR_RUNS) if start.sourced else 1.0
    shared = _best(group, start, ENGINE, weight)
    shared = shared.model_copy(update={"working_bytes": _working(group, shared), "calibrated": len(group)})
    place = {"hardware": first.hardware.key, "engine": first.engine, "major": major(first.engine_version)}
    found = [Fitted(**place, format=ANY_FORMAT, efficiency=shared)]
    forms: dict[str, list[Sighting]] = defaultdict(list)
    for seen in group:
        forms[seen.format.name].append(seen)
    for name, runs in forms.items():
        own = _best(runs, shared, FORMAT, len(runs) / (len(runs) + PRIOR_RUNS))
        found.append(Fitted(**place, format=name, efficiency=own.model_copy(update={"calibrated": len(runs)})))
    return found


def _best(runs: list[Sighting], start: Efficiency, fields: tuple[str, ...], weight: float) -> Efficiency:
    """The efficiency that errs least, moved that share of the way from the start, in logarithms."""
    from scipy.optimize import least_squares

    begin = [math.log(max(getattr(start, field) or 0.0, LEAST_S)) for field in fields]

    def errors(at: Sequence[float]) -> list[float]:
        return _errors(runs, _with(start, fields, at))

    found = least_squares(errors, begin, loss="huber", f_scale=HUBER).x
    moved = [a + weight * (float(b) - a) for a, b in zip(begin, found, strict=True)]
    return _with(start, fields, moved)


def _with(start: Efficiency, fields: tuple[str, ...], logarithms: Sequence[float]) -> Efficiency:
    values = {field: math.exp(min(value, 50.0)) for field, value in zip(fields, logarithms, strict=True)}
    return start.model_copy(update=values)


def _errors(runs: list[Sighting], reached: Efficiency) -> list[float]:
    """log(predicted/measured) of every timed figure."""
    found = []
    for seen in runs:
        expected, measured = predictions(seen, reached, Calibrations()), seen.measured()
        found += [
            math.log(expected[name] / value)
            for name, value in measured.items()
            if name.startswith(TIMED) and name in expected and value > 0
        ]
    return found or [0.0]


def _working(group: list[Sighting], reached: Efficiency) -> float:
    """Median of what memory was measured beyond weights and cache."""
    bare = reached.model_copy(update={"working_bytes": LEAST_S})
    beyond = [
        seen.measured()["peak_memory_bytes"] - predictions(seen, bare, Calibrations())["peak_memory_bytes"]
        for seen in group
        if "peak_memory_bytes" in seen.measured()
    ]
    return max(LEAST_S, median(beyond)) if beyond else USUAL_WORKING_BYTES


def _qualities(sightings: list[Sighting]) -> Iterable[MeasuredQuality]:
    gates: dict[tuple[int, str], list[float]] = defaultdict(list)
    for seen in sightings:
        if "perplexity_change" in seen.measured():
            gates[seen.model.parameters, seen.format.name].append(seen.measured()["perplexity_change"])
    for (parameters, name), rises in gates.items():
        yield MeasuredQuality(parameters=parameters, format=name, perplexity=median(rises), gates=len(rises))
