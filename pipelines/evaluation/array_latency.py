"""Latency of models of arrays: a baseline and a candidate run the same batch in alternating blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from pipelines.evaluation.bootstrap import Floats, exactly
from pipelines.evaluation.latency import DRIFT, Limits, Stopped, alternate, drift_of, ratio
from pipelines.evaluation.paired import median, once, paired, percentile
from pipelines.measures import Interval, Metric, metric
from stages.base import Frozen

Side = Literal["baseline", "candidate"]
Run = Callable[[], tuple[float, ...]]
"""Runs one block: the seconds of each of its calls."""


class ArrayPair(Frozen):
    """A block of the baseline and a block of the candidate, one right after the other: seconds of each call."""

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]


class BatchSamples(Frozen):
    """Every pair at one batch size, and why sampling stopped."""

    batch: int
    pairs: tuple[ArrayPair, ...]
    stopped: Stopped

    def ratio(self, seed: int) -> Interval:
        """Baseline's seconds over the candidate's: the median over pairs of the ratio of block medians."""
        return ratio([(pair.baseline, pair.candidate) for pair in self.pairs], seed)


class ArraySpeedSamples(Frozen):
    """All that was timed of a baseline and a candidate (in that order), in their own live workers."""

    batches: tuple[BatchSamples, ...]
    load_s: tuple[float, float]
    peak_memory_bytes: tuple[int, int]


def sample_batch(
    baseline: Run, candidate: Run, batch: int, limits: Limits, progress: Callable[[int], None] = lambda _: None
) -> BatchSamples:
    """Alternate until the speed ratio is known well enough; see `latency.alternate`."""
    pairs, stopped = alternate(baseline, candidate, lambda found: ratio(found, 0), limits, progress)
    made = tuple(ArrayPair(baseline=one, candidate=other) for one, other in pairs)
    return BatchSamples(batch=batch, pairs=made, stopped=stopped)


def array_speed_metrics(samples: ArraySpeedSamples, side: Side, seed: int) -> dict[str, Metric]:
    """Every speed metric of one side, further batch sizes in names of their own; the candidate's carry their change."""
    found = _once(samples, side)
    for position, at_batch in enumerate(samples.batches):
        found += _at_batch(at_batch, side, seed, "" if position == 0 else f"_{at_batch.batch}")
    return {item.name: item for item in found}


def _once(samples: ArraySpeedSamples, side: Side) -> list[Metric]:
    mine, compared = (0, False) if side == "baseline" else (1, True)
    how = "peak resident memory of the worker while it was timed, its runtime and mapped weights included"
    loads, peaks = samples.load_s, samples.peak_memory_bytes
    return [
        once("load_s", loads[mine], loads[0] if compared else None, "opening the artifact, once"),
        once("peak_memory_bytes", peaks[mine], peaks[0] if compared else None, how),
    ]


def _at_batch(samples: BatchSamples, side: Side, seed: int, suffix: str) -> list[Metric]:
    mine, base = _both(samples, side, lambda seconds: [1000 * each for each in seconds])
    count, runs = mine.shape
    how = (
        f"batch {samples.batch}, {count} blocks of {runs} calls, alternating with the baseline, "
        f"stopped by {samples.stopped}"
    )
    rates = _both(samples, side, lambda seconds: samples.batch * len(seconds) / sum(seconds))
    faster = samples.ratio(seed) if side == "candidate" else exactly(1.0)
    ratio_how = f"batch {samples.batch}, median ratio of the blocks' median times, baseline over candidate"
    return [
        *(paired(f"latency_p{each}_ms{suffix}", mine, base, percentile(each), seed, how) for each in (50, 95, 99)),
        paired(f"throughput_per_s{suffix}", *rates, median, seed, how),
        metric(f"speed_ratio{suffix}", faster, count, ratio_how),
    ]


def _both(
    samples: BatchSamples, side: Side, value: Callable[[tuple[float, ...]], float | list[float]]
) -> tuple[Floats, Floats | None]:
    """A value of each of the side's blocks, and of the baseline's if the side is another."""
    baseline = np.array([value(pair.baseline) for pair in samples.pairs])
    if side == "baseline":
        return baseline, None
    return np.array([value(pair.candidate) for pair in samples.pairs]), baseline


def array_warnings(samples: ArraySpeedSamples, stage: str) -> list[str]:
    """What a reader of the speed figures must know: drift, an imprecise ratio, a candidate slower than its baseline."""
    return [note for at_batch in samples.batches for note in _warnings(at_batch, stage)]


def _warnings(samples: BatchSamples, stage: str) -> Iterator[str]:
    at, faster = f"at batch {samples.batch}", samples.ratio(0)
    change = drift_of([pair.baseline for pair in samples.pairs])
    if abs(change) > DRIFT:
        yield f"the machine's own speed drifted by {change:+.0%} {at}; ratios still hold"
    if samples.stopped != "precision":
        limit = "the time limit" if samples.stopped == "time" else f"{len(samples.pairs)} pairs"
        width = (faster.high - faster.low) / 2 / faster.value
        yield f"speed ratio {at} is known to {width:.0%} only: stopped by {limit}"
    if faster.high < 1:
        spread = f"interval {faster.low:.2f}..{faster.high:.2f}x"
        yield f"{stage} is slower than its float version {at}: {faster.value:.2f}x its speed, {spread}"
