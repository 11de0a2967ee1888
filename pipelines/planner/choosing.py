"""Which of the weighed options is taken, which one challenges it, and what would have to change where none can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import Field

from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option
from pipelines.planner.costs import Costs
from pipelines.planner.options import Weighed, batch_dollars, batch_hours, weigh_all
from pipelines.planner.prediction import Prediction
from stages.base import Frozen

PLANNER_ERROR = 0.15  # median error of throughput: less is no gain
LEAST_SCALE = 1 / 64
MOST_DEVICES = 100_000


class Nearest(Frozen):
    """What is possible where the question as asked is not."""

    devices: int | None = None
    requests_per_s: float | None = None
    users: int | None = None
    hours: float | None = None
    prompt: int | None = None
    output: int | None = None
    ttft_ms: float | None = Field(None, description="p95 of what comes closest, where it misses the goal")
    tbt_ms: float | None = Field(None, description="of what comes closest, where it misses the goal")
    dollars_per_million: float | None = Field(None, description="of what comes closest, where it is over the ceiling")

    def __str__(self) -> str:
        said = [
            f"{self.devices} devices" if self.devices else "",
            f"at most {self.requests_per_s:.3g} req/s" if self.requests_per_s else "",
            f"at most {self.users} streams" if self.users else "",
            f"{self.hours:.1f} h" if self.hours else "",
            f"prompts of {self.prompt:,} and outputs of {self.output:,} tokens" if self.prompt and self.output else "",
        ]
        said += [
            f"TTFT p95 {self.ttft_ms:.0f} ms" if self.ttft_ms else "",
            f"TBT {self.tbt_ms:.2g} ms" if self.tbt_ms else "",
            f"${self.dollars_per_million:.3g} for 10^6 tokens" if self.dollars_per_million else "",
        ]
        return "; ".join(filter(None, said)) or "nothing of this model on this machine"


def best(case: Case, weighed: Sequence[Weighed]) -> Weighed | None:
    """The option that ranks first by the objective; None of none."""
    return min(weighed, key=rank(case, weighed), default=None)


def rank(case: Case, among: Sequence[Weighed]) -> Callable[[Weighed], tuple[float, ...]]:
    """A key of the objective; the least is best.

    Batch: the least dollars; within the planner's own error the fewest devices. Cost: dollars a token. Otherwise full
    precision before anything that must be gated, then the most requests; without a GPU the most tokens a second.
    """
    cheapest = min((_dollars(case, item) for item in among), default=math.inf)

    def key(item: Weighed) -> tuple[float, ...]:
        found = item.prediction
        assert found is not None
        dollars, fewest = _dollars(case, item), (item.option.devices, item.option.split)
        if case.goals.objective in {"batch", "cost"} and math.isfinite(cheapest):
            return (float(dollars > cheapest * (1 + PLANNER_ERROR)), *fewest, dollars)
        if case.edge:
            return (-found.tokens_per_s, *fewest)
        pressed = not item.option.format.whole and any(other.option.format.whole for other in among)
        return (float(pressed), -found.requests_per_s, *fewest)

    return key


def _dollars(case: Case, item: Weighed) -> float:
    assert item.prediction is not None
    if case.goals.objective == "batch":
        dollars = batch_dollars(case, item.option, item.prediction)
    else:
        dollars = item.prediction.dollars_per_million
    return math.inf if dollars is None else dollars


def challenger(case: Case, weighed: Sequence[Weighed], chosen: Weighed | None) -> Weighed | None:
    """The option that only a prior of quality excludes, and that would rank first: to be decided by a gate."""
    rivals = [item for item in weighed if item.only_prior]
    first = best(case, rivals)
    if first is None or chosen is None:
        return first
    if case.goals.objective in {"batch", "cost"}:
        return first if _dollars(case, first) < _dollars(case, chosen) * (1 - PLANNER_ERROR) else None
    if chosen.option.format.whole and not case.edge:
        return None  # nothing presses
    key = rank(case, [first, chosen])
    return first if key(first) < key(chosen) else None


def closest(case: Case, weighed: Sequence[Weighed]) -> Weighed | None:
    """Where nothing is accepted: the best of what fits and keeps its quality, else the smallest of all."""
    fitting = [
        item for item in weighed if item.prediction and item.prediction.concurrency > 0 and not _gated(case, item)
    ]
    if fitting:
        useful = [item for item in fitting if not _compute_bound(item)] or fitting
        if case.goals.objective == "slo" and not case.edge:
            return max(useful, key=lambda item: item.prediction.requests_per_s if item.prediction else 0.0)
        return best(case, useful)
    sized = [item for item in weighed if item.prediction]
    return min(sized, key=lambda item: item.prediction.weight_bytes_per_device if item.prediction else 0, default=None)


def _compute_bound(item: Weighed) -> bool:
    return any(found.startswith("compute-bound") for found in item.violated)


def _gated(case: Case, item: Weighed) -> bool:
    prior, goals = item.prior, case.goals
    return prior is not None and (prior.perplexity > goals.perplexity or prior.task > goals.task)


def warm_tokens(case: Case, option: Option, calibrations: Calibrations) -> int:
    """New tokens after a cached prefix that still meet TTFT; 0 when not even one does."""
    reached = calibrations.efficiency(case.hardware, option.engine, option.format)
    costs = Costs(case, option, reached)
    low, high = 0, case.work.prompt
    while low < high:
        middle = (low + high + 1) // 2
        met = costs.ttft(1, 0.0, case.work.prompt - middle) * 1e3 <= case.goals.ttft_ms
        low, high = (middle, high) if met else (low, middle - 1)
    return low


def nearest(case: Case, closest_option: Weighed | None, calibrations: Calibrations) -> Nearest:
    """Devices required, greatest rate, nearest feasible lengths, and what of its goals the closest option misses."""
    near = _nearest(case, closest_option, calibrations)
    found = closest_option.prediction if closest_option else None
    if found is None or found.concurrency < 1:
        return near
    return near.model_copy(update={name: value for name, value, goal in _judged(case, found) if value > goal})


def _judged(case: Case, found: Prediction) -> list[tuple[str, float, float]]:
    """Times and cost with their goals; a batch has none of time."""
    goals = case.goals
    timed = [("ttft_ms", found.ttft_p95_ms, goals.ttft_ms), ("tbt_ms", found.tbt_ms, goals.tbt_ms)]
    judged = [] if goals.objective == "batch" else timed
    if goals.dollars_per_million is not None and found.dollars_per_million is not None:
        judged.append(("dollars_per_million", found.dollars_per_million, goals.dollars_per_million))
    return judged


def _nearest(case: Case, closest_option: Weighed | None, calibrations: Calibrations) -> Nearest:
    lengths = _lengths(case, calibrations)
    if closest_option is None or closest_option.prediction is None or closest_option.prediction.concurrency < 1:
        return Nearest(devices=_devices(case, None, calibrations), **lengths)
    found, option = closest_option.prediction, closest_option.option
    within = found.tbt_ms <= case.goals.tbt_ms and found.ttft_p95_ms <= case.goals.ttft_ms
    if case.goals.objective == "batch":
        return Nearest(hours=batch_hours(case, option, found), devices=_devices(case, found, calibrations), **lengths)
    if case.work.users is not None:
        return Nearest(users=_most_users(case, calibrations), devices=_devices(case, None, calibrations), **lengths)
    rate = found.requests_per_s * case.limits.load if within else None
    return Nearest(devices=_devices(case, found, calibrations), requests_per_s=rate, **lengths)


def _devices(case: Case, found: Prediction | None, calibrations: Calibrations) -> int | None:
    """Least number of such devices for the load: by the option's own rate, else by trying."""
    if case.edge:
        return None
    if found is not None and case.work.users is None and found.ttft_p95_ms <= case.goals.ttft_ms:
        devices = _devices_for(case, found)
        return devices if devices > case.count else None  # more of them is not what is missing
    low, high = case.count, case.count
    while high <= MOST_DEVICES and not _feasible(replace(case, count=high), calibrations):
        low, high = high, high * 2
    if high > MOST_DEVICES:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _feasible(replace(case, count=middle), calibrations) else (middle, high)
    return high


def _devices_for(case: Case, found: Prediction) -> int:
    """By the rate of one replica: enough copies at the headroom's load, or for the deadline."""
    split = round(found.weight_bytes / found.weight_bytes_per_device)
    each = found.tokens_per_s / case.work.output
    if case.goals.objective == "batch":
        documents = case.work.documents or case.work.requests * 3600 * case.goals.hours
        return math.ceil(documents / (each * 3600 * case.goals.hours)) * split
    return math.ceil(case.work.requests / (each * case.limits.load)) * split


def _feasible(case: Case, calibrations: Calibrations) -> bool:
    return any(item.accepted for item in weigh_all(case, calibrations))


def _most_users(case: Case, calibrations: Calibrations) -> int | None:
    low, high = 0, case.work.users or 1
    while high - low > 1:
        middle = (low + high) // 2
        fewer = replace(case, work=case.work.model_copy(update={"users": middle}))
        low, high = (middle, high) if _feasible(fewer, calibrations) else (low, middle)
    return low or None


def _lengths(case: Case, calibrations: Calibrations) -> dict[str, int]:
    """The longest prompt and output in the same proportion that can be served."""
    scale = 0.5
    while scale >= LEAST_SCALE:
        work = case.work.scaled(prompt=scale, output=scale)
        if _feasible(replace(case, work=work), calibrations):
            return {"prompt": work.prompt, "output": work.output}
        scale /= 2
    return {}
