"""From timed pairs to metrics: TTFT, time between tokens, tokens/s, load time, peak memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from pipelines.evaluation.bootstrap import Floats, exactly
from pipelines.evaluation.latency import DRIFT, Block, Samples, SpeedSamples, drift, ratio_of
from pipelines.evaluation.paired import median, once, paired, percentile
from pipelines.measures import Metric, metric

Side = Literal["reference", "candidate"]


def speed_metrics(samples: SpeedSamples, side: Side, seed: int) -> dict[str, Metric]:
    """Every speed metric of one side; the candidate's carry their change against the reference."""
    found = _once(samples, side)
    for position, at_length in enumerate(samples.lengths):
        found += _ttft(at_length, side, seed, "" if position == 0 else f"_{at_length.prompt_tokens}")
    found += _decoding(samples.lengths[0], side, seed)
    return {item.name: item for item in found}


def _once(samples: SpeedSamples, side: Side) -> list[Metric]:
    mine, base = (0, None) if side == "reference" else (1, 0)
    how = "peak resident memory of the worker while it generated, its runtime and mapped weights included"
    loads, peaks = samples.load_s, samples.peak_memory_bytes
    return [
        once("load_s", loads[mine], None if base is None else loads[base], "opening the artifact, once"),
        once("peak_memory_bytes", peaks[mine], None if base is None else peaks[base], how),
    ]


def _ttft(samples: Samples, side: Side, seed: int, suffix: str) -> list[Metric]:
    mine, base = _both(samples, side, lambda block: 1000 * block.ttft_s)
    how = f"prompt of {samples.prompt_tokens} tokens, alternating with the reference, stopped by {samples.stopped}"
    rates = _both(samples, side, lambda block: samples.prompt_tokens / block.ttft_s)
    return [
        paired(f"ttft_p50_ms{suffix}", mine, base, median, seed, how),
        paired(f"ttft_p95_ms{suffix}", mine, base, percentile(95), seed, how),
        paired(f"prefill_tokens_per_s{suffix}", *rates, median, seed, how),
    ]


def _decoding(samples: Samples, side: Side, seed: int) -> list[Metric]:
    mine, base = _both(samples, side, lambda block: [1000 * gap for gap in block.gaps_s])
    n = mine.shape[1]
    how = f"{len(samples.pairs)} blocks of {n} gaps, alternating with the reference, stopped by {samples.stopped}"
    found = [paired(f"tbt_p{percent}_ms", mine, base, percentile(percent), seed, how) for percent in (50, 95, 99)]
    rates = _both(samples, side, lambda block: n / sum(block.gaps_s))
    found.append(paired("decode_tokens_per_s", *rates, median, seed, how))
    ratio = ratio_of(samples.pairs, seed) if side == "candidate" else exactly(1.0)
    return [*found, metric("speed_ratio", ratio, len(samples.pairs), "median ratio of times between tokens")]


def _both(samples: Samples, side: Side, value: Callable[[Block], float | list[float]]) -> tuple[Floats, Floats | None]:
    """A value of each of the side's blocks, and of the reference's if the side is another."""
    reference = np.array([value(pair.reference) for pair in samples.pairs])
    if side == "reference":
        return reference, None
    return np.array([value(pair.candidate) for pair in samples.pairs]), reference


def size_metric(mine: int, reference: int | None) -> Metric:
    """Bytes of the artifact on disk."""
    return once("size_bytes", mine, reference, "all files of the artifact")


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
