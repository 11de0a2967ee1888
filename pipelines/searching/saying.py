"""What a search says as it goes: a line a trial."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from pipelines.quantities import duration
from pipelines.searching.looking import in_play
from pipelines.searching.trials import CHANGE, Trial


def line(trial: Trial, count: str, best: Trial | None, ending: str) -> str:
    """Which trial of how many, what came of it, what is best, how long it may still take."""
    change, size = trial.figures.get(CHANGE), trial.figures.get("size_bytes")
    leader = "" if best is None else "this" if best.number == trial.number else f"trial {best.number}, {best.label}"
    said = [
        verdict(trial),
        f"{size.value / 1e6:.1f} MB" if size else "",
        f"perplexity {change.value:+.2%}" if change else "",
        trial.reason.splitlines()[0] if trial.reason and not change else "",
        f"best so far: {leader}" if leader else "",
        ending,
    ]
    return f"trial {count}  {trial.label}: {'; '.join(filter(None, said))}"


def verdict(trial: Trial) -> str:
    """In words, with the look that it comes from."""
    if trial.look != "early":
        return trial.verdict
    return f"{'in play' if in_play(trial) else trial.verdict} at the first look"


def ending(left: int, spent: Sequence[float], minutes: float | None, elapsed: float) -> str:
    """How long the rest may take, by the seconds that trials took, the points left and the budget of minutes."""
    seconds = left * mean(spent)
    if minutes is not None:
        seconds = min(seconds, 60 * minutes - elapsed)
    return f"at most {left} more, about {duration(max(0.0, seconds))}"
