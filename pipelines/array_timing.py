"""Time two live sessions over arrays against each other, a batch size at a time."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import DataError
from pipelines.evaluation.array_latency import ArraySpeedSamples, BatchSamples, Run, sample_batch
from pipelines.fields.evaluation import Latency
from pipelines.progress import Progress
from pipelines.runner import LiveSession
from stages._inputs import load


def time_batches(
    sessions: tuple[LiveSession, LiveSession], examples: str, settings: Latency, progress: Progress
) -> ArraySpeedSamples:
    """Samples of baseline and candidate (in that order), with the load time and the peak memory of both.

    `examples` is a folder of inputs (`stages._inputs`), whose first ones fill the batches.

    Raises:
        DataError: they are fewer than the largest batch.
    """
    _check(examples, settings)
    for session in sessions:
        session.call("forget_peak_memory")
    batches = [_at_batch(sessions, examples, batch, settings, progress) for batch in settings.batch_sizes]
    loads = [session.call("facts") for session in sessions]
    peaks = [session.call("peak_memory") for session in sessions]
    return ArraySpeedSamples.model_validate(
        {
            "batches": batches,
            "load_s": [facts["load_s"] for facts in loads if isinstance(facts, dict)],
            "peak_memory_bytes": peaks,
        }
    )


def _check(examples: str, settings: Latency) -> None:
    inputs, most = load(Path(examples)), max(settings.batch_sizes)
    if len(inputs) < most:
        raise DataError(
            f"evaluation {inputs.what}: {len(inputs):,} do not fill a batch of {most}",
            f"give more {inputs.what}, or smaller `evaluation.latency.batch_sizes`",
        )


def _at_batch(
    sessions: tuple[LiveSession, LiveSession], examples: str, batch: int, settings: Latency, progress: Progress
) -> BatchSamples:
    limits = (settings.pairs, settings.max_pairs, settings.precision, settings.time_limit_s)
    baseline, candidate = (_block(session, examples, batch, settings.runs) for session in sessions)
    with progress.bar(f"latency, batch {batch}", settings.max_pairs, "pairs") as bar:
        return sample_batch(baseline, candidate, batch, limits, lambda done: bar.update(done))


def _block(session: LiveSession, examples: str, batch: int, runs: int) -> Run:
    def run() -> tuple[float, ...]:
        made = session.call("time_batch", examples=examples, batch=batch, runs=runs)
        assert isinstance(made, dict)
        return tuple(made["seconds"])  # type: ignore[arg-type]

    return run
