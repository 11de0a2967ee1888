import time
from collections.abc import Callable

import pytest

from pipelines.evaluation.latency import Block, Pair, Samples, drift, ratio_of, sample
from targets.base import Generated

LIMITS = (3, 12, 0.05, 60.0)


class Clock:
    """Generates with given times, and writes down who was asked."""

    def __init__(self, name: str, asked: list[str], gaps: Callable[[int], float]) -> None:
        self._name, self._asked, self._gaps, self._count = name, asked, gaps, 0

    def __call__(self) -> Generated:
        self._asked.append(self._name)
        self._count += 1
        return Generated((1, 2, 3), (0.1, *[self._gaps(self._count)] * 2))


def sides(reference: Callable[[int], float], candidate: Callable[[int], float]) -> tuple[Clock, Clock, list[str]]:
    asked: list[str] = []
    return Clock("r", asked, reference), Clock("c", asked, candidate), asked


def pair(reference_gap: float, candidate_gap: float) -> Pair:
    first, second = (Block(ttft_s=0.1, gaps_s=(gap, gap)) for gap in (reference_gap, candidate_gap))
    return Pair(reference=first, candidate=second)


def test_blocks_alternate_after_a_warm_up_that_is_dropped() -> None:
    reference, candidate, asked = sides(lambda _: 0.04, lambda _: 0.02)

    samples = sample(reference, candidate, 128, LIMITS)

    assert "".join(asked) == "rc" + "rc" + "cr" + "rc"
    assert len(samples.pairs) == 3
    assert samples.stopped == "precision"
    assert samples.pairs[1].reference.gaps_s == (0.04, 0.04)
    assert samples.pairs[1].candidate.gaps_s == (0.02, 0.02)
    assert samples.pairs[0].reference.ttft_s == 0.1


def test_sampling_goes_on_until_the_ratio_is_known() -> None:
    jumpy = [1.0, 0.5, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    reference, candidate, _ = sides(lambda _: 0.04, lambda count: 0.02 * jumpy[count - 1])
    done: list[int] = []

    samples = sample(reference, candidate, 128, (3, 12, 0.05, 60.0), done.append)

    assert samples.stopped == "precision"
    assert 3 < len(samples.pairs) < 12
    assert done == list(range(1, len(samples.pairs) + 1))


def test_sampling_stops_at_the_most_pairs() -> None:
    reference, candidate, _ = sides(lambda _: 0.04, lambda count: 0.02 * count)

    samples = sample(reference, candidate, 128, (3, 6, 0.01, 60.0))

    assert (len(samples.pairs), samples.stopped) == (6, "pairs")


def test_sampling_stops_at_the_time_limit_but_not_before_the_least_pairs() -> None:
    reference, candidate, _ = sides(lambda _: 0.04, lambda count: 0.02 * count)
    began = time.monotonic()

    samples = sample(reference, candidate, 128, (4, 1000, 0.01, 1e-9))

    assert (len(samples.pairs), samples.stopped) == (4, "time")
    assert time.monotonic() - began < 5


def test_ratio_is_the_references_time_over_the_candidates() -> None:
    assert ratio_of([pair(0.04, 0.02)] * 5, 0).model_dump() == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_drift_of_the_whole_machine_leaves_the_ratio_alone() -> None:
    pairs = [pair(0.04 * slower, 0.02 * slower) for slower in (1.0, 1.1, 1.3, 1.5, 1.6, 1.6)]
    samples = Samples(prompt_tokens=128, pairs=tuple(pairs), stopped="precision")

    assert ratio_of(samples.pairs, 0).value == pytest.approx(2.0)
    assert drift(samples) == pytest.approx(1.6 / 1.1 - 1)


def test_one_slow_block_does_not_move_the_ratio() -> None:
    pairs = [pair(0.04, 0.02)] * 6 + [pair(0.04, 2.0)]

    assert ratio_of(pairs, 0).value == pytest.approx(2.0)
