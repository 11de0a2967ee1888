"""From timed pairs to metrics: TTFT, time between tokens, tokens/s, load time, peak memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats, exactly
from pipelines.evaluation.latency import DRIFT, Block, Samples, SpeedSamples, drawn, drift, ratio_of
from pipelines.measures import Interval, Metric, metric

Side = Literal["reference", "candidate"]
Statistic = Callable[[Floats, NDArray[np.int64]], Floats]


def speed_metrics(samples: SpeedSamples, side: Side, seed: int) -> dict[str, Metric]:
    """Every speed metric of one side; the candidate's carry their change against the reference."""
    found = [_load(samples, side), _peak(samples, side)]
    for position, at_length in enumerate(samples.lengths):
        found += _ttft(at_length, side, seed, "" if position == 0 else f"_{at_length.prompt_tokens}")
    found += _decoding(samples.lengths[0], side, seed)
    return {item.name: item for item in found}


def _ttft(samples: Samples, side: Side, seed: int, suffix: str) -> list[Metric]:
    times = {one: np.array([getattr(pair, one).ttft_s for pair in samples.pairs]) for one in _sides(side)}
    how = f"prompt of {samples.prompt_tokens} tokens, alternating with the reference, stopped by {samples.stopped}"
    rates = {one: samples.prompt_tokens / seconds for one, seconds in times.items()}
    milliseconds = {one: seconds * 1000 for one, seconds in times.items()}
    return [
        _paired(f"ttft_p50_ms{suffix}", milliseconds, side, _median, seed, how),
        _paired(f"ttft_p95_ms{suffix}", milliseconds, side, _percentile(95), seed, how),
        _paired(f"prefill_tokens_per_s{suffix}", rates, side, _median, seed, how),
    ]


def _decoding(samples: Samples, side: Side, seed: int) -> list[Metric]:
    gaps = {one: np.array([getattr(pair, one).gaps_s for pair in samples.pairs]) * 1000 for one in _sides(side)}
    n = gaps[side].shape[1]
    how = f"{len(samples.pairs)} blocks of {n} gaps, alternating with the reference, stopped by {samples.stopped}"
    found = [_paired(f"tbt_p{percent}_ms", gaps, side, _percentile(percent), seed, how) for percent in (50, 95, 99)]
    rates = {one: n / (milliseconds.sum(axis=1) / 1000) for one, milliseconds in gaps.items()}
    found.append(_paired("decode_tokens_per_s", rates, side, _median, seed, how))
    ratio = ratio_of(samples.pairs, seed) if side == "candidate" else exactly(1.0)
    return [*found, metric("speed_ratio", ratio, len(samples.pairs), "median ratio of times between tokens")]


def _paired(name: str, values: dict[Side, Floats], side: Side, statistic: Statistic, seed: int, how: str) -> Metric:
    mine, n = values[side], len(values[side])

    def of(array: Floats) -> Callable[[NDArray[np.int64]], Floats]:
        return lambda rows: statistic(array, rows)

    value = drawn(of(mine), n, seed)
    if side == "reference":
        return metric(name, value, n, how)
    base = values["reference"]
    change = drawn(lambda rows: statistic(mine, rows) - statistic(base, rows), n, seed)
    relative = drawn(lambda rows: statistic(mine, rows) / statistic(base, rows) - 1, n, seed)
    return metric(name, value, n, how, change, relative)


def _median(values: Floats, rows: NDArray[np.int64]) -> Floats:
    result: Floats = np.median(values[rows], axis=1)
    return result


def _percentile(percent: float) -> Statistic:
    def statistic(values: Floats, rows: NDArray[np.int64]) -> Floats:
        drawn_values = values[rows].reshape(len(rows), -1)
        result: Floats = np.percentile(drawn_values, percent, axis=1)
        return result

    return statistic


def _load(samples: SpeedSamples, side: Side) -> Metric:
    mine = samples.load_s[_sides_index(side)]
    return metric("load_s", exactly(mine), 1, "opening the artifact, once", *_against(mine, samples.load_s[0], side))


def _peak(samples: SpeedSamples, side: Side) -> Metric:
    mine, base = samples.peak_memory_bytes[_sides_index(side)], samples.peak_memory_bytes[0]
    how = "peak resident memory of the worker while it generated, its runtime and mapped weights included"
    return metric("peak_memory_bytes", exactly(mine), 1, how, *_against(mine, base, side))


def _against(mine: float, base: float, side: Side) -> tuple[Interval | None, Interval | None]:
    if side == "reference" or not base:
        return None, None
    return exactly(mine - base), exactly(mine / base - 1)


def size_metric(mine: int, reference: int | None) -> Metric:
    """Bytes of the artifact on disk."""
    change = _against(mine, reference or 0, "reference" if reference is None else "candidate")
    return metric("size_bytes", exactly(mine), 1, "all files of the artifact", *change)


def warnings(samples: SpeedSamples, size_bytes: int) -> list[str]:
    """What makes the speed figures suspect: drift of the machine, a speed that memory cannot deliver."""
    found = []
    for at_length in samples.lengths:
        change = drift(at_length)
        if abs(change) > DRIFT:
            found.append(
                f"the machine's own speed drifted by {change:+.0%} while speed was measured; ratios still hold"
            )
        if at_length.stopped != "precision":
            found.append(_imprecise(at_length))
    needed = size_bytes / _fastest(samples.lengths[0]) / 1e9
    if needed > 1.5 * samples.memory_bandwidth_gb_s:
        found.append(
            f"suspicious speed: reading {size_bytes / 1e6:.0f} MB a token needs {needed:.0f} GB/s, "
            f"memory was measured at {samples.memory_bandwidth_gb_s:.0f} GB/s"
        )
    return found


def _imprecise(samples: Samples) -> str:
    ratio = ratio_of(samples.pairs, 0)
    width = (ratio.high - ratio.low) / 2 / ratio.value
    limit = "the time limit" if samples.stopped == "time" else f"{len(samples.pairs)} pairs"
    return f"speed ratio at {samples.prompt_tokens} prompt tokens is known to {width:.0%} only: stopped by {limit}"


def _fastest(samples: Samples) -> float:
    blocks: list[Block] = [pair.candidate for pair in samples.pairs]
    return float(np.median([np.median(block.gaps_s) for block in blocks]))


def _sides(side: Side) -> tuple[Side, ...]:
    return ("reference",) if side == "reference" else ("reference", "candidate")


def _sides_index(side: Side) -> int:
    return 0 if side == "reference" else 1
