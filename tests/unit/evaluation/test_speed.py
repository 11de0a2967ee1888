import pytest

from pipelines.evaluation.latency import Block, Pair, SpeedSamples
from pipelines.evaluation.speed import size_metric, speed_metrics, warnings
from pipelines.measures import kind_of


def block(ttft: float, gap: float) -> Block:
    return Block(ttft_s=ttft, gaps_s=(gap, gap, gap, gap))


def samples(
    *lengths: int, slower: float = 1.0, stopped: str = "precision", bandwidth: float = 20.0, jitter: float = 0.0
) -> SpeedSamples:
    """The candidate is twice as fast; the machine is `slower` times as slow in the second half of six pairs."""
    factors = [1.0 + jitter * number for number in range(3)] + [slower] * 3
    pairs = tuple(Pair(reference=block(0.4 * f, 0.04 * f), candidate=block(0.2 * f, 0.02 * f)) for f in factors)
    each = [{"prompt_tokens": length, "pairs": pairs, "stopped": stopped} for length in lengths or (128,)]
    return SpeedSamples.model_validate(
        {
            "lengths": each,
            "load_s": (2.0, 0.5),
            "peak_memory_bytes": (800_000_000, 200_000_000),
            "memory_bandwidth_gb_s": bandwidth,
        }
    )


def test_candidate_is_measured_in_itself_and_against_the_reference() -> None:
    found = speed_metrics(samples(), "candidate", seed=0)

    values = {name: item.value for name, item in found.items()}
    assert values == pytest.approx(
        {
            "load_s": 0.5,
            "peak_memory_bytes": 200e6,
            "ttft_p50_ms": 200,
            "ttft_p95_ms": 200,
            "prefill_tokens_per_s": 640,
            "tbt_p50_ms": 20,
            "tbt_p95_ms": 20,
            "tbt_p99_ms": 20,
            "decode_tokens_per_s": 50,
            "speed_ratio": 2,
        }
    )
    for name, item in found.items():
        kind = kind_of(name)
        assert kind is not None
        assert (item.unit, item.higher_is_better) == (kind.unit, kind.higher_is_better)
        assert item.low <= item.value <= item.high
        assert (item.relative is not None) == kind.compared


def test_faster_candidate_has_less_time_and_more_tokens_a_second() -> None:
    found = speed_metrics(samples(), "candidate", seed=0)

    relative = {name: item.relative.value for name, item in found.items() if item.relative}
    assert relative["tbt_p50_ms"] == pytest.approx(-0.5)
    assert relative["ttft_p50_ms"] == pytest.approx(-0.5)
    assert relative["decode_tokens_per_s"] == pytest.approx(1.0)
    assert relative["peak_memory_bytes"] == pytest.approx(-0.75)
    change = found["tbt_p50_ms"].change
    assert change is not None
    assert change.value == pytest.approx(-20)


def test_changes_are_paired_so_that_drift_cancels_in_the_ratio() -> None:
    found = speed_metrics(samples(slower=1.5, jitter=0.05), "candidate", seed=0)

    relative = found["decode_tokens_per_s"].relative
    assert relative is not None
    assert (relative.low, relative.high) == pytest.approx((1.0, 1.0))
    assert found["decode_tokens_per_s"].low < found["decode_tokens_per_s"].high


def test_reference_has_no_change() -> None:
    found = speed_metrics(samples(), "reference", seed=0)

    assert found["tbt_p50_ms"].value == pytest.approx(40)
    assert found["speed_ratio"].value == 1.0
    assert all(item.change is None and item.relative is None for item in found.values())


def test_further_prompt_lengths_have_metrics_of_their_own() -> None:
    found = speed_metrics(samples(128, 512), "candidate", seed=0)

    assert {name for name in found if name.endswith("_512")} == {
        "ttft_p50_ms_512",
        "ttft_p95_ms_512",
        "prefill_tokens_per_s_512",
    }
    assert found["prefill_tokens_per_s_512"].value == pytest.approx(512 / 0.2)


def test_every_speed_metric_says_how_it_was_taken() -> None:
    found = speed_metrics(samples(), "candidate", seed=0)

    assert found["tbt_p95_ms"].how == "6 blocks of 4 gaps, alternating with the reference, stopped by precision"
    assert found["ttft_p50_ms"].n == 6
    assert all(item.how for item in found.values())


def test_size_is_compared_with_the_references() -> None:
    found = size_metric(135_000_000, 540_000_000)

    assert (found.value, found.n) == (135e6, 1)
    assert found.relative is not None
    assert found.relative.value == pytest.approx(-0.75)
    assert size_metric(540_000_000, None).change is None


def test_steady_machine_gives_no_warning() -> None:
    assert warnings(samples(), 135_000_000) == []


def test_drift_of_the_machine_is_told() -> None:
    assert warnings(samples(slower=1.3), 1) == [
        "the machine's own speed drifted by +30% while speed was measured; ratios still hold"
    ]


@pytest.mark.parametrize(("stopped", "limit"), [("time", "the time limit"), ("pairs", "6 pairs")])
def test_ratio_that_is_not_known_well_enough_is_told(stopped: str, limit: str) -> None:
    assert warnings(samples(stopped=stopped), 1) == [
        f"speed ratio at 128 prompt tokens is known to 0% only: stopped by {limit}"
    ]


def test_speed_that_memory_cannot_deliver_is_told() -> None:
    assert warnings(samples(bandwidth=4.0), 135_000_000) == [
        "suspicious speed: reading 135 MB a token needs 7 GB/s, memory was measured at 4 GB/s"
    ]
