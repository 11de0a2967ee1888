from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.bootstrap import Z, bootstrap, exactly, mcnemar, mcnemar_test, tail, wilson

FLAGS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_within_0_and_1(counted: tuple[int, int]) -> None:
    successes, n = counted

    found = wilson(successes, n)

    assert found.value == successes / n
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_wilson_interval_matches_a_published_example() -> None:
    """81 of 263: 0.2553..0.3662 (Newcombe 1998, Statistics in Medicine 17, table I, method 3)."""
    found = wilson(81, 263)

    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@given(st.integers(0, 100))
def test_more_examples_of_the_same_share_narrow_wilsons_interval(percent: int) -> None:
    few, many = wilson(percent, 100), wilson(percent * 10, 1000)

    assert many.high - many.low < few.high - few.low


@given(st.floats(-1e6, 1e6), st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_bootstrap_of_a_constant_has_no_width(value: float, n: int, seed: int) -> None:
    values = np.full(n, value)

    found = bootstrap(lambda drawn: values[drawn].max(axis=1), n, seed)

    assert (found.low, found.value, found.high) == (value, value, value)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(10, 2, 200)

    found = bootstrap(lambda drawn: values[drawn].mean(axis=1), 200, 0)

    half = Z * values.std() / sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)


@pytest.mark.parametrize(("n", "plain"), [(8, 0.88), (16, 0.905)])
def test_interval_of_few_samples_is_wide_enough(n: int, plain: float) -> None:
    generator, trials, held = np.random.default_rng(3), 200, 0
    for trial in range(trials):
        values = generator.normal(size=n)
        found = bootstrap(lambda drawn, values=values: values[drawn].mean(axis=1), n, trial)  # type: ignore[misc]
        held += found.low <= 0 <= found.high

    assert plain + 0.02 < held / trials < 0.98


@pytest.mark.parametrize(("n", "share"), [(1, 0.025), (16, 0.01387), (1_000_000, 0.025)])
def test_tails_are_those_of_plain_percentiles_for_many_samples(n: int, share: float) -> None:
    assert tail(n) == pytest.approx(share, rel=1e-3)


def test_bootstrap_of_the_same_seed_is_the_same() -> None:
    values = np.random.default_rng(0).normal(size=30)

    def draw(seed: int) -> tuple[float, float]:
        found = bootstrap(lambda drawn: values[drawn].mean(axis=1), 30, seed)
        return found.low, found.high

    assert draw(1) == draw(1) != draw(2)


@given(FLAGS)
def test_mcnemar_interval_holds_the_change(pairs: list[tuple[bool, bool]]) -> None:
    reference, candidate = (np.array(side) for side in zip(*pairs, strict=True))

    found = mcnemar(reference, candidate)

    assert found.value == pytest.approx(candidate.mean() - reference.mean())
    assert found.low <= found.value <= found.high


@given(FLAGS)
def test_mcnemar_interval_of_the_exchange_is_the_mirror_image(pairs: list[tuple[bool, bool]]) -> None:
    reference, candidate = (np.array(side) for side in zip(*pairs, strict=True))

    forth, back = mcnemar(reference, candidate), mcnemar(candidate, reference)

    assert (forth.low, forth.value, forth.high) == pytest.approx((-back.high, -back.value, -back.low))


def test_mcnemar_matches_a_calculation_by_hand() -> None:
    """n = 100, 10 gained, 2 lost: (10.5 - 2.5) / 102 -+ 1.96 sqrt(13 - 64 / 102) / 102 (Agresti and Min 2005)."""
    reference = np.array([False] * 10 + [True] * 2 + [True] * 88)
    candidate = np.array([True] * 10 + [False] * 2 + [True] * 88)

    found = mcnemar(reference, candidate)

    assert (round(found.low, 4), found.value, round(found.high, 4)) == (0.0108, 0.08, 0.146)


def test_drop_of_accuracy_is_negative() -> None:
    right, wrong = np.ones(50, dtype=bool), np.zeros(50, dtype=bool)

    assert mcnemar(right, wrong).value == -1
    assert mcnemar(wrong, right).value == 1


def test_exact_number_has_no_spread() -> None:
    assert exactly(3.0).model_dump() == {"value": 3.0, "low": 3.0, "high": 3.0}


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, "1"),
        (1, 1, "1"),
        (0, 1, "1"),
        (0, 6, "0.031"),
        (6, 0, "0.031"),
        (5, 15, "0.041"),
        (3000, 3400, "6.1e-07"),
    ],
)
def test_mcnemars_exact_p_is_that_of_a_fair_coin(gained: int, lost: int, p: str) -> None:
    candidate = np.array([True] * gained + [False] * lost + [True] * 50)
    reference = np.array([False] * gained + [True] * lost + [True] * 50)

    assert mcnemar_test(reference, candidate) == f"{gained} gained, {lost} lost, p = {p}"
