"""Why the other options and levers were not taken, and the one that is to be measured before it is dismissed."""

from __future__ import annotations

from pipelines.planner.answer import Challenger
from pipelines.planner.case import Case
from pipelines.planner.left_alone import Left, left_alone
from pipelines.planner.options import Weighed, batch_dollars, batch_hours
from pipelines.planner.prediction import Prediction


def rejected(case: Case, weighed: list[Weighed], chosen: Weighed | None) -> tuple[Left, ...]:
    """Every option with what it violates; one that violates nothing ranks behind the chosen one."""
    said = []
    for item in weighed:
        if chosen is not None and item.option == chosen.option:
            continue
        why = "; ".join(item.violated) or _outranked(case, item.prediction, chosen)
        said.append(Left(what=str(item.option), why=why))
    if chosen is not None and chosen.prediction is not None and chosen.prediction.concurrency > 0:
        said += left_alone(case, chosen.option, chosen.prediction)
    return tuple(said)


def challenger(case: Case, rival: Weighed | None) -> Challenger | None:
    """What stands for the option that only a prior of quality excludes."""
    if rival is None or rival.prediction is None:
        return None
    gain = f"{rival.prediction.tokens_per_s:.3g} tok/s a replica"
    if case.goals.objective == "batch":
        hours = batch_hours(case, rival.option, rival.prediction)
        dollars = batch_dollars(case, rival.option, rival.prediction)
        gain = f"{hours:.1f} h" + (f", ${dollars:.2f}" if dollars is not None else "")
    gate = f"measure quality first: by prior, {'; '.join(rival.violated)}"
    return Challenger(option=str(rival.option), gate=gate, gain=gain)


def _outranked(case: Case, found: Prediction | None, chosen: Weighed | None) -> str:
    if found is None or chosen is None or chosen.prediction is None:
        return "outranked"
    best = chosen.prediction
    if case.goals.objective in {"batch", "cost"}:
        price, least = found.dollars_per_million, best.dollars_per_million
        if price is not None and least is not None:
            return f"${price:.3g} a million tokens against ${least:.3g}: no gain beyond the planner's error, or dearer"
    if case.edge:
        return f"{found.tokens_per_s:.1f} <= {best.tokens_per_s:.1f} tok/s"
    if chosen.option.format.whole and found.requests_per_s > best.requests_per_s:
        return "goals met without it: keep BF16"
    return f"{found.requests_per_s:.3g} <= {best.requests_per_s:.3g} req/s"
