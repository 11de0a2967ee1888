from __future__ import annotations

import pytest

from pipelines.measures import Interval, metric
from pipelines.reporting import display


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("perplexity", 30.4539, "30.45"),
        ("perplexity", 6.23219, "6.232"),
        ("size_bytes", 138_400_000, "138 MB"),
        ("size_bytes", 512, "512 B"),
        ("peak_memory_bytes", 4.2e9, "4.20 GB"),
        ("tbt_p50_ms", 13.68, "13.7 ms"),
        ("ttft_p50_ms_1024", 1240.2, "1240 ms"),
        ("top1_agreement", 1.0, "100.0%"),
        ("kl_divergence", 0.01214, "0.0121 nats"),
        ("kl_divergence", 0.0, "0 nats"),
        ("decode_tokens_per_s", 72.13, "72.1 tok/s"),
        ("speed_ratio", 1.923, "1.92x"),
        ("perplexity", float("inf"), "inf"),
    ],
)
def test_value_has_three_digits_and_its_unit(name: str, value: float, shown: str) -> None:
    assert display.value(metric(name, Interval(value=value, low=value, high=value), 1, "")) == shown


def test_interval_has_the_decimals_of_its_value() -> None:
    measured = metric("tbt_p50_ms", Interval(value=13.68, low=13.512, high=14.0), 40, "")
    assert display.interval(measured) == "13.5..14.0 ms"


@pytest.mark.parametrize(
    ("change", "shown", "interval"),
    [
        (Interval(value=0.01394, low=0.011, high=0.0172), "+1.39%", "+1.10..+1.72%"),
        (Interval(value=-0.00004, low=-0.00006, high=-0.00002), "-0.004%", "-0.006..-0.002%"),
    ],
)
def test_change_is_signed_and_tells_agreeing_converters_apart(change: Interval, shown: str, interval: str) -> None:
    measured = metric("perplexity", Interval(value=30, low=29, high=31), 16, "", relative=change)
    assert (display.change(measured), display.change_interval(measured)) == (shown, interval)


def test_metric_without_a_reference_has_no_change() -> None:
    measured = metric("perplexity", Interval(value=30, low=30, high=30), 16, "")
    assert (display.change(measured), display.change_interval(measured), display.interval(measured)) == ("", "", "")
