"""Time two live sessions against each other, a prompt length at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.device import memory_bandwidth_gb_s
from pipelines.errors import DataError
from pipelines.evaluation.latency import Generate, Samples, SpeedSamples, sample
from pipelines.fields.evaluation import Speed
from pipelines.progress import Progress
from pipelines.runner import LiveSession
from targets.base import Generated


def time_pairs(
    sessions: tuple[LiveSession, LiveSession],
    text: NDArray[np.int32],
    settings: Speed,
    threads: int,
    progress: Progress,
) -> SpeedSamples:
    """Samples of reference and candidate (in that order), with the load time and the peak memory of both."""
    for session in sessions:
        session.call("forget_peak_memory")
    lengths = [_at_length(sessions, text, length, settings, progress) for length in settings.prompt_tokens]
    loads = [session.call("facts") for session in sessions]
    peaks = [session.call("peak_memory") for session in sessions]
    return SpeedSamples.model_validate(
        {
            "lengths": lengths,
            "load_s": [facts["load_s"] for facts in loads if isinstance(facts, dict)],
            "peak_memory_bytes": peaks,
            "memory_bandwidth_gb_s": memory_bandwidth_gb_s(threads),
        }
    )


def _at_length(
    sessions: tuple[LiveSession, LiveSession],
    text: NDArray[np.int32],
    length: int,
    settings: Speed,
    progress: Progress,
) -> Samples:
    if len(text) < length:
        raise DataError(
            f"evaluation text: {len(text):,} tokens are less than a prompt of {length}",
            "give a longer text, or shorter `evaluation.speed.prompt_tokens`",
        )
    prompt = text[:length].tolist()
    limits = (settings.pairs, settings.max_pairs, settings.precision, settings.time_limit_s)
    reference, candidate = (_generate(session, prompt, settings.tokens) for session in sessions)
    with progress.bar(f"speed, {length} prompt tokens", settings.max_pairs, "pairs") as bar:
        return sample(reference, candidate, length, limits, lambda done: bar.update(done))


def _generate(session: LiveSession, prompt: list[int], n: int) -> Generate:
    def run() -> Generated:
        made = session.call("generate", prompt=list(prompt), n=n)
        assert isinstance(made, dict)
        return Generated(tuple(made["tokens"]), tuple(made["seconds"]))  # type: ignore[arg-type]

    return run
