"""Speculative decoding by alternating generations, alone and with the draft model; what came of it as metrics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats, bootstrap, wilson
from pipelines.evaluation.latency import Limits, Stopped, alternate, ratio
from pipelines.evaluation.paired import median, once, paired
from pipelines.measures import Interval, Metric, metric
from stages.base import Frozen
from targets.base import Generated, Speculated


class DraftPair(Frozen):
    """One prompt's continuation without the draft model and with it, one right after the other: whole seconds."""

    prompt: int
    alone_s: float
    seconds: float
    drafted: int
    accepted: int
    steps: int
    parted: int | None = None
    """The first token, counted from 0, that was not the model's own."""


class DraftSamples(Frozen):
    """Every pair, why sampling stopped, and the peak of resident memory without the draft model and with it."""

    tokens: int
    prompt_tokens: int
    generated: int
    pairs: tuple[DraftPair, ...]
    stopped: Stopped
    peak_memory_bytes: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def each(self) -> list[DraftPair]:
        """One pair a prompt: what is drafted and accepted is the same every time."""
        return list({pair.prompt: pair for pair in reversed(self.pairs)}.values())


class Turn(NamedTuple):
    """One generation of a prompt."""

    prompt: int
    seconds: float
    tokens: tuple[int, ...]
    speculated: Speculated | None = None


def sample_draft(
    alone: Callable[[int], Generated],
    drafted: Callable[[int], Speculated],
    prompts: int,
    limits: Limits,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[tuple[Turn, Turn]], Stopped]:
    """Pairs of continuations of prompts 0, 1, ... in turn until the ratio of their seconds is known well enough.

    Both take the number of a prompt. Every prompt has its turn; the last one warms up. See `alternate`.
    """

    def plain(number: int) -> Turn:
        made = alone(number)
        return Turn(number, sum(made.seconds), made.tokens)

    def helped(number: int) -> Turn:
        made = drafted(number)
        return Turn(number, made.seconds, made.tokens, made)

    def speedup(pairs: list[tuple[Turn, Turn]]) -> Interval:
        return ratio([([one.seconds], [other.seconds]) for one, other in pairs], 0)

    least, most, precision, seconds = limits
    limits = max(least, prompts), max(most, prompts), precision, seconds
    return alternate(_in_turn(plain, prompts), _in_turn(helped, prompts), speedup, limits, progress)


def _in_turn(generate: Callable[[int], Turn], prompts: int) -> Callable[[], Turn]:
    order = chain([prompts - 1], cycle(range(prompts)))
    return lambda: generate(next(order))


def pair_of(alone: Turn, drafted: Turn) -> DraftPair:
    """What is kept of two generations of the same prompt."""
    made = drafted.speculated
    assert made is not None
    assert alone.prompt == drafted.prompt
    different = (n for n, (one, other) in enumerate(zip(alone.tokens, made.tokens, strict=True)) if one != other)
    return DraftPair(
        prompt=alone.prompt,
        alone_s=alone.seconds,
        seconds=made.seconds,
        drafted=made.drafted,
        accepted=made.accepted,
        steps=made.steps,
        parted=next(different, None),
    )


def draft_metrics(samples: DraftSamples, size_bytes: int, seed: int) -> dict[str, Metric]:
    """Every metric of a draft model; `size_bytes` are its own."""
    each, n = samples.each, samples.generated
    setting = f"{n} greedy tokens after {len(each)} prompts of {samples.prompt_tokens}"
    timed = f"{setting}, prompt included, alternating without and with the draft, stopped by {samples.stopped}"
    drafted, accepted, steps = (_column(each, name) for name in ("drafted", "accepted", "steps"))
    whole = sum(pair.parted is None for pair in each)
    rates = [n / np.array([pair.seconds for pair in samples.pairs]), n / np.array([p.alone_s for p in samples.pairs])]
    gain = ratio([([pair.alone_s], [pair.seconds]) for pair in samples.pairs], seed)
    alone, peak = samples.peak_memory_bytes
    told = f"{int(accepted.sum())} of {int(drafted.sum())} drafted tokens, at most {samples.tokens} a step; {setting}"
    found = [
        metric("draft_acceptance", _share(accepted, drafted, seed), len(each), told),
        metric("draft_tokens_per_step", _share(steps + accepted, steps, seed), len(each), setting),
        metric("draft_exact_match", wilson(whole, len(each)), len(each), f"with the draft and without; {setting}"),
        paired("undrafted_tokens_per_s", rates[1], None, median, seed, timed),
        paired("draft_tokens_per_s", rates[0], rates[1], median, seed, f"{timed}; the change is against without"),
        metric("draft_speedup", gain, len(samples.pairs), f"median ratio of seconds; {timed}"),
        once("draft_memory_bytes", peak - alone, None, "by which the worker's peak of resident memory is higher"),
        once("draft_size_bytes", size_bytes, None, "all files of the draft model"),
    ]
    return {item.name: item for item in found}


def _column(pairs: list[DraftPair], name: str) -> NDArray[np.float64]:
    return np.array([getattr(pair, name) for pair in pairs], dtype=np.float64)


def _share(parts: Floats, wholes: Floats, seed: int) -> Interval:
    """The sum of one over that of the other, over prompts."""

    def statistic(rows: NDArray[np.int64]) -> Floats:
        whole: Floats = np.maximum(wholes[rows].sum(axis=1), 1)
        share: Floats = parts[rows].sum(axis=1) / whole
        return share

    return bootstrap(statistic, len(parts), seed)


def draft_notes(samples: DraftSamples, metrics: dict[str, Metric]) -> list[str]:
    """What the draft did to speed, whichever way, and where the output was not the model's own."""
    gain, acceptance, made = (metrics[f"draft_{name}"] for name in ("speedup", "acceptance", "tokens_per_step"))
    clear = "it pays" if gain.low > 1 else "it slows the model down" if gain.high < 1 else "no clear difference"
    rates = f"{metrics['undrafted_tokens_per_s'].value:.1f} -> {metrics['draft_tokens_per_s'].value:.1f} tokens/s"
    told = (
        f"with the draft model {gain.value:.2f}x ({gain.low:.2f}..{gain.high:.2f}x) the speed, {rates}: {clear}; "
        f"{acceptance.value:.1%} of {samples.tokens} tokens a step accepted, {made.value:.2f} tokens a pass"
    )
    return [told, *samples.notes]
