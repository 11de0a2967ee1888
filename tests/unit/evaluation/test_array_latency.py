from collections.abc import Callable

import pytest

from pipelines.evaluation.array_latency import (
    ArrayPair,
    ArraySpeedSamples,
    BatchSamples,
    array_speed_metrics,
    array_warnings,
    sample_batch,
)
from pipelines.evaluation.latency import Stopped
from pipelines.measures import kind_of


def pair(baseline: float, candidate: float) -> ArrayPair:
    return ArrayPair(baseline=(baseline,) * 4, candidate=(candidate,) * 4)


def samples(
    *batches: int, faster: float = 2.0, slower: float = 1.0, stopped: Stopped = "precision", jitter: float = 0.0
) -> ArraySpeedSamples:
    """A baseline of 10 ms an example; the machine is `slower` times as slow in the second half of six pairs."""
    factors = [1.0 + jitter * number for number in range(3)] + [slower] * 3
    each = [
        BatchSamples(
            batch=batch,
            pairs=tuple(pair(0.01 * batch * f, 0.01 * batch * f / faster) for f in factors),
            stopped=stopped,
        )
        for batch in batches or (1,)
    ]
    return ArraySpeedSamples(batches=tuple(each), load_s=(2.0, 0.5), peak_memory_bytes=(400_000_000, 100_000_000))


def block(name: str, asked: list[str], seconds: float) -> Callable[[], tuple[float, ...]]:
    def run() -> tuple[float, ...]:
        asked.append(name)
        return (seconds, seconds, 3 * seconds)

    return run


def test_blocks_alternate_after_a_warm_up_that_is_dropped() -> None:
    asked: list[str] = []

    found = sample_batch(block("b", asked, 0.02), block("c", asked, 0.01), 8, (3, 12, 0.05, 60.0))

    assert "".join(asked) == "bc" + "bc" + "cb" + "bc"
    assert (found.batch, len(found.pairs), found.stopped) == (8, 3, "precision")
    assert found.pairs[1] == ArrayPair(baseline=(0.02, 0.02, 0.06), candidate=(0.01, 0.01, 0.03))
    assert found.ratio(0).model_dump() == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_candidate_is_measured_in_itself_and_against_the_baseline() -> None:
    found = array_speed_metrics(samples(), "candidate", seed=0)

    assert {name: item.value for name, item in found.items()} == pytest.approx(
        {
            "load_s": 0.5,
            "peak_memory_bytes": 100e6,
            "latency_p50_ms": 5,
            "latency_p95_ms": 5,
            "latency_p99_ms": 5,
            "throughput_per_s": 200,
            "speed_ratio": 2,
        }
    )
    for name, item in found.items():
        kind = kind_of(name)
        assert kind is not None
        assert (item.unit, item.higher_is_better) == (kind.unit, kind.higher_is_better)
        assert item.low <= item.value <= item.high
        assert (item.relative is not None) == kind.compared


def test_faster_candidate_has_less_latency_and_more_throughput() -> None:
    found = array_speed_metrics(samples(), "candidate", seed=0)

    relative = {name: item.relative.value for name, item in found.items() if item.relative}
    assert relative["latency_p50_ms"] == pytest.approx(-0.5)
    assert relative["throughput_per_s"] == pytest.approx(1.0)
    assert relative["peak_memory_bytes"] == pytest.approx(-0.75)


def test_baseline_has_no_change() -> None:
    found = array_speed_metrics(samples(), "baseline", seed=0)

    assert found["latency_p50_ms"].value == pytest.approx(10)
    assert found["speed_ratio"].value == 1.0
    assert all(item.change is None and item.relative is None for item in found.values())


def test_further_batch_sizes_have_metrics_of_their_own() -> None:
    found = array_speed_metrics(samples(1, 32), "candidate", seed=0)

    assert {name for name in found if name.endswith("_32")} == {
        "latency_p50_ms_32",
        "latency_p95_ms_32",
        "latency_p99_ms_32",
        "throughput_per_s_32",
        "speed_ratio_32",
    }
    assert found["latency_p50_ms_32"].value == pytest.approx(160)
    assert found["throughput_per_s_32"].value == pytest.approx(200)


def test_percentiles_are_over_the_calls_of_every_block() -> None:
    slow_once = ArrayPair(baseline=(0.01,) * 99 + (1.0,), candidate=(0.01,) * 100)
    found = array_speed_metrics(
        ArraySpeedSamples(
            batches=(BatchSamples(batch=1, pairs=(slow_once,) * 5, stopped="pairs"),),
            load_s=(1, 1),
            peak_memory_bytes=(1, 1),
        ),
        "baseline",
        seed=0,
    )

    assert found["latency_p95_ms"].value == pytest.approx(10)
    assert 10 < found["latency_p99_ms"].value < 1000
    assert found["throughput_per_s"].value == pytest.approx(100 / 1.99)


def test_drift_of_the_machine_cancels_in_the_change() -> None:
    found = array_speed_metrics(samples(slower=1.5, jitter=0.05), "candidate", seed=0)["throughput_per_s"]

    assert found.relative is not None
    assert (found.relative.low, found.relative.high) == pytest.approx((1.0, 1.0))
    assert found.low < found.high


def test_every_metric_says_how_it_was_taken() -> None:
    found = array_speed_metrics(samples(8), "candidate", seed=0)

    assert found["latency_p95_ms"].how == (
        "batch 8, 6 blocks of 4 calls, alternating with the baseline, stopped by precision"
    )
    assert found["latency_p95_ms"].n == 6
    assert all(item.how for item in found.values())


def test_samples_survive_json() -> None:
    made = samples(1, 32)

    assert ArraySpeedSamples.model_validate_json(made.model_dump_json()) == made


def test_steady_machine_and_a_faster_candidate_give_no_warning() -> None:
    assert array_warnings(samples(1, 32), "quantize_onnx") == []


def test_candidate_slower_than_its_float_version_is_called_that() -> None:
    assert array_warnings(samples(1, 32, faster=0.8), "quantize_onnx") == [
        "quantize_onnx is slower than its float version at batch 1: 0.80x its speed, interval 0.80..0.80x",
        "quantize_onnx is slower than its float version at batch 32: 0.80x its speed, interval 0.80..0.80x",
    ]


def test_candidate_that_may_be_as_fast_is_not_called_slower() -> None:
    pairs = tuple(pair(0.01, seconds) for seconds in (0.009, 0.0102, 0.0103, 0.0101, 0.0099))
    made = samples().model_copy(update={"batches": (BatchSamples(batch=1, pairs=pairs, stopped="precision"),)})

    assert made.batches[0].ratio(0).value < 1
    assert array_warnings(made, "quantize_onnx") == []


def test_drift_of_the_machine_is_told() -> None:
    assert array_warnings(samples(slower=1.3), "quantize_onnx") == [
        "the machine's own speed drifted by +30% at batch 1; ratios still hold"
    ]


@pytest.mark.parametrize(("stopped", "limit"), [("time", "the time limit"), ("pairs", "6 pairs")])
def test_ratio_that_is_not_known_well_enough_is_told(stopped: Stopped, limit: str) -> None:
    assert array_warnings(samples(stopped=stopped), "quantize_onnx") == [
        f"speed ratio at batch 1 is known to 0% only: stopped by {limit}"
    ]
