"""Whether the goals can be met, by which option, and why no further lever is pulled."""

from __future__ import annotations

from pipelines.planner import choosing
from pipelines.planner.answer import Verdict
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case
from pipelines.planner.choosing import PLANNER_ERROR
from pipelines.planner.options import Weighed, batch_hours
from pipelines.planner.prediction import Prediction
from stages.base import Frozen

MOSTLY_SPENT = 0.8
"""Share of the quality budget from which on it is what stops."""


class Choice(Frozen):
    """The option taken, or where none meets the goals the one that comes closest."""

    verdict: Verdict
    chosen: Weighed | None
    warm_tokens: int | None = None


def choose(case: Case, weighed: list[Weighed], calibrations: Calibrations) -> Choice:
    """The verdict on every option weighed."""
    chosen = choosing.best(case, [item for item in weighed if item.accepted])
    if chosen is not None and chosen.prediction is not None:
        cold = case.goals.objective != "batch" and chosen.prediction.cold_ttft_ms > case.goals.ttft_ms
        return Choice(verdict="WARM_ONLY" if cold else "FEASIBLE", chosen=chosen)
    late = [item for item in weighed if item.violated and all(text.startswith("TTFT") for text in item.violated)]
    warm = choosing.best(case, late) if case.work.alone else None
    if warm is not None:
        tokens = choosing.warm_tokens(case, warm.option, calibrations)
        if tokens:
            return Choice(verdict="WARM_ONLY", chosen=warm, warm_tokens=tokens)
    return Choice(verdict="INFEASIBLE", chosen=choosing.closest(case, weighed))


def stop(case: Case, choice: Choice) -> str:
    """Why no further lever is pulled."""
    chosen = choice.chosen
    if choice.verdict == "INFEASIBLE" or chosen is None or chosen.prediction is None:
        violated = "; ".join(chosen.violated) if chosen else "no format runs on this machine"
        return f"S4: nothing left attacks it: {violated}"
    if choice.verdict == "WARM_ONLY":
        return _warm(case, choice, chosen.prediction)
    return _met(case, chosen, chosen.prediction)


def _warm(case: Case, choice: Choice, found: Prediction) -> str:
    budget = f"; up to {choice.warm_tokens} new tokens meet it" if choice.warm_tokens else ""
    return (
        f"TTFT {found.cold_ttft_ms:.0f} ms cold > {case.goals.ttft_ms:g} ms, met only behind a cached "
        f"prefix{budget}; else a smaller model"
    )


def _met(case: Case, chosen: Weighed, found: Prediction) -> str:
    if case.goals.objective == "batch":
        hours = batch_hours(case, chosen.option, found)
        return f"deadline met: {hours:.1f} <= {case.goals.hours:g} h; more devices halve the time for equal dollars"
    if case.goals.objective == "cost" and case.hardware.price_per_hour:
        return f"S2: nothing else that is accepted is cheaper by more than the planner's error of {PLANNER_ERROR:.0%}"
    if chosen.option.format.whole and case.work.adapters > 1:
        return "no pressure; adapters validated on BF16"
    if chosen.option.format.whole and not case.edge:
        return "S1: goals met in full precision: nothing is quantized without need"
    spent = max(_spent(chosen.prior.perplexity, case.goals.perplexity) if chosen.prior else 0.0, 0.0)
    if spent >= MOSTLY_SPENT:
        return f"S3: {spent:.0%} of the quality budget spent"
    return f"S1: goals met at {case.limits.load:.0%} load"


def _spent(loss: float, allowed: float) -> float:
    return loss / allowed if allowed else (1.0 if loss else 0.0)
