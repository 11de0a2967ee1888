from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import DEVICE

from pipelines.budget import Budget, Verdict
from pipelines.measures import Interval, Metric, Report, metric


def interval(low: float, value: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def report(*metrics: Metric) -> Report:
    by_name = {item.name: item for item in metrics}
    return Report(artifact="d" * 64, stage="quantize_gguf", device=DEVICE, metrics=by_name)


def compared(name: str, was: float, now: float, low: float, high: float) -> Metric:
    """A metric whose relative change lies in low..high; its absolute change accordingly."""
    change = interval(was * low, now - was, was * high)
    return metric(name, interval(now * 0.95, now, now * 1.05), 16, "", change, interval(low, now / was - 1, high))


PERPLEXITY = compared("perplexity", 30.4539, 32.6222, 0.066, 0.077)


def judged(measured: Metric, **fields: Any) -> Verdict:
    return Budget.model_validate({"metric": measured.name, **fields}).judge(report(measured))


def test_perplexity_that_rose_beyond_the_limit_fails() -> None:
    assert judged(PERPLEXITY, max_regression="5%") == Verdict(
        decision="fail",
        passed=False,
        metric="perplexity",
        message="perplexity rose 30.45 -> 32.62 (+7.12%, interval 6.6%..7.7%, allowed 5%) after quantize_gguf",
    )


def test_perplexity_that_rose_within_the_limit_passes() -> None:
    assert judged(PERPLEXITY, max_regression="8%") == Verdict(
        decision="pass",
        passed=True,
        metric="perplexity",
        message="perplexity rose 30.45 -> 32.62 (+7.12%, interval 6.6%..7.7%, allowed 8%) after quantize_gguf",
    )


@pytest.mark.parametrize(
    ("on_inconclusive", "limit", "passed"),
    [
        ("fail", "7.5%", False),
        ("point", "7.5%", True),
        ("point", "7%", False),
        ("pass", "7%", True),
    ],
)
def test_interval_across_the_limit_is_decided_as_the_config_says(
    on_inconclusive: str, limit: str, passed: bool
) -> None:
    verdict = judged(PERPLEXITY, max_regression=limit, on_inconclusive=on_inconclusive)

    assert (verdict.decision, verdict.passed, verdict.flagged) == ("inconclusive", passed, True)
    assert verdict.message == (
        f"perplexity rose 30.45 -> 32.62 (+7.12%, interval 6.6%..7.7%, allowed {limit}) after quantize_gguf; "
        f"the interval spans the limit, on_inconclusive: {on_inconclusive}"
    )


def test_gain_is_no_regression() -> None:
    better = compared("perplexity", 30.0, 29.1, -0.04, -0.02)

    verdict = judged(better, max_regression=0.0)

    assert verdict.passed
    assert verdict.message == ("perplexity fell 30 -> 29.10 (-0.9, interval -1.2..-0.6, allowed 0) after quantize_gguf")


def test_accuracy_may_rise_but_not_drop() -> None:
    dropped, risen = (
        compared("accuracy_siqa", 0.5, 0.45, -0.14, -0.06),
        compared("accuracy_siqa", 0.5, 0.55, 0.06, 0.14),
    )

    fell, rose = judged(dropped, max_regression=0.02), judged(risen, max_regression=0.02)

    assert (fell.decision, rose.decision) == ("fail", "pass")
    assert fell.message == (
        "accuracy_siqa fell 50.0% -> 45.0% (-5 points, interval -7 points..-3 points, allowed 2 points) "
        "after quantize_gguf"
    )
    assert judged(dropped, max_regression="5%").decision == "fail"
    assert judged(dropped, max_regression="15%").decision == "pass"


def test_size_may_grow_by_so_much() -> None:
    grown = metric(
        "size_bytes", interval(120e6, 120e6, 120e6), 1, "", interval(20e6, 20e6, 20e6), interval(0.2, 0.2, 0.2)
    )

    assert judged(grown, max_regression="20 MB").decision == "pass"
    assert judged(grown, max_regression=19e6).message == (
        "size_bytes rose 100 MB -> 120 MB (+20 MB, allowed 19 MB) after quantize_gguf"
    )


@pytest.mark.parametrize(
    ("fields", "decision", "message"),
    [
        ({"max": 35}, "pass", "perplexity is 32.62 (interval 30.99..34.25, at most 35 allowed) after quantize_gguf"),
        ({"max": 30}, "fail", "perplexity is 32.62 (interval 30.99..34.25, at most 30 allowed) after quantize_gguf"),
        ({"min": 30}, "pass", "perplexity is 32.62 (interval 30.99..34.25, at least 30 allowed) after quantize_gguf"),
        ({"min": 35}, "fail", "perplexity is 32.62 (interval 30.99..34.25, at least 35 allowed) after quantize_gguf"),
    ],
)
def test_value_is_held_to_its_bounds(fields: dict[str, float], decision: str, message: str) -> None:
    verdict = judged(PERPLEXITY, **fields)

    assert (verdict.decision, verdict.message) == (decision, message)


def test_bound_itself_is_allowed() -> None:
    size = metric("size_bytes", interval(150e6, 150e6, 150e6), 1, "")

    assert judged(size, max="150 MB").decision == "pass"
    assert judged(size, min="150 MB").decision == "pass"
    assert judged(size, max=150e6 - 1).message == "size_bytes is 150 MB (at most 150 MB allowed) after quantize_gguf"


def test_strictest_of_several_limits_decides() -> None:
    assert judged(PERPLEXITY, max_regression="8%", max=30).message.startswith("perplexity is 32.62")
    assert judged(PERPLEXITY, max_regression="5%", max=35).message.startswith("perplexity rose")
    assert judged(PERPLEXITY, max_regression="8%", max=35).decision == "pass"


def test_limit_that_is_surely_broken_comes_before_one_in_doubt() -> None:
    verdict = judged(PERPLEXITY, max_regression="7%", on_inconclusive="fail", max=30)

    assert (verdict.decision, verdict.flagged) == ("fail", False)


def test_doubt_is_flagged_although_another_limit_is_surely_kept() -> None:
    assert judged(PERPLEXITY, max_regression="7.5%", max=35).flagged


def test_metric_that_was_not_measured_fails() -> None:
    budget = Budget(metric="perplexity", max=3)

    assert budget.judge(report()) == Verdict(
        decision="fail", passed=False, metric="perplexity", message="perplexity was not measured after quantize_gguf"
    )


def test_reference_of_zero_leaves_nothing_to_compare_with() -> None:
    measured = metric("accuracy_siqa", interval(0.0, 0.1, 0.2), 9, "", interval(0.0, 0.1, 0.2), None)

    verdict = judged(measured, max_regression="2%")

    assert not verdict.passed
    assert verdict.message == (
        "accuracy_siqa has nothing to be compared with: the reference's is 0 or was not measured after quantize_gguf"
    )
    assert judged(measured, max_regression=0.02).passed


@pytest.mark.parametrize("on_inconclusive", ["fail", "point", "pass"])
def test_value_that_is_no_number_never_passes(on_inconclusive: str) -> None:
    nan = float("nan")
    measured = metric("perplexity", interval(nan, nan, nan), 16, "", interval(nan, nan, nan), interval(nan, nan, nan))

    for limit in ({"max_regression": "5%"}, {"max": 100}, {"min": 1}):
        assert not judged(measured, **limit, on_inconclusive=on_inconclusive).passed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"metric": "perplexity", "max_regression": "2%"}, {"max_regression": 0.02, "relative": True}),
        ({"metric": "perplexity", "max_regression": "7 %"}, {"max_regression": 0.07, "relative": True}),
        ({"metric": "perplexity", "max_regression": ".5%"}, {"max_regression": 0.005, "relative": True}),
        ({"metric": "perplexity", "max_regression": 0.5}, {"max_regression": 0.5, "relative": False}),
        ({"metric": "size_bytes", "max": "150 MB"}, {"max": 150e6}),
        ({"metric": "size_bytes", "max": "1.5GB"}, {"max": 1.5e9}),
        ({"metric": "peak_memory_bytes", "max": "900 kB"}, {"max": 900e3}),
        ({"metric": "top1_agreement", "min": "98%"}, {"min": 0.98}),
    ],
)
def test_percentages_and_sizes_are_numbers(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    budget = Budget.model_validate(fields)

    assert {name: getattr(budget, name) for name in expected} == expected
    assert Budget.model_validate_json(budget.model_dump_json()) == budget


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a budget needs `max_regression`, `min` or `max`"),
        ({"min": 3, "max": 2}, "`min` is greater than `max`"),
        ({"max": "150 MB"}, "unable to parse string as a number"),
        ({"max": "2%"}, "unable to parse string as a number"),
        ({"max_regression": "1.2.3%"}, "unable to parse string as a number"),
        ({"max_regression": "-2%"}, "unable to parse string as a number"),
        ({"max_regression": -0.02}, "greater than or equal to 0"),
        ({"max": float("nan")}, "finite number"),
        ({"max": float("inf")}, "finite number"),
        ({"max": 3, "on_inconclusive": "maybe"}, "'fail', 'point' or 'pass'"),
    ],
)
def test_budget_that_says_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Budget.model_validate({"metric": "perplexity", **fields})


def test_speed_and_size_are_judged_on_the_deployable_alone() -> None:
    assert [Budget(metric=name, max=1).on_deployable for name in ("size_bytes", "tbt_p50_ms", "ttft_p50_ms_512")] == [
        True
    ] * 3
    assert [Budget(metric=name, max=1).on_deployable for name in ("perplexity", "accuracy_x", "exact_match")] == [
        False
    ] * 3


NUMBERS = st.floats(-1, 1, allow_nan=False)
PERPLEXITIES = (
    st.lists(NUMBERS, min_size=3, max_size=3)
    .map(sorted)
    .map(lambda bounds: metric("perplexity", interval(20, 30, 40), 16, "", interval(*bounds), interval(*bounds)))
)
LIMIT = st.floats(0, 1)


@given(PERPLEXITIES, LIMIT, LIMIT, st.sampled_from(["fail", "point", "pass"]), st.booleans())
def test_budget_that_passes_at_a_limit_passes_at_any_larger_one(
    measured: Metric, one: float, other: float, on_inconclusive: str, relative: bool
) -> None:
    tight, loose = sorted((one, other))
    common = {"on_inconclusive": on_inconclusive, "relative": relative}

    if judged(measured, max_regression=tight, **common).passed:
        assert judged(measured, max_regression=loose, **common).passed


@given(PERPLEXITIES, LIMIT)
def test_the_way_an_inconclusive_verdict_goes_is_monotone(measured: Metric, limit: float) -> None:
    fail, point, passing = (
        judged(measured, max_regression=limit, on_inconclusive=way).passed for way in ("fail", "point", "pass")
    )

    assert fail <= point <= passing
