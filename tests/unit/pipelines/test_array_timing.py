"""Real sessions in this process, of a known difference in speed."""

import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.array_timing import time_batches
from pipelines.errors import DataError
from pipelines.evaluation.array_latency import ArraySpeedSamples
from pipelines.evaluation.live import Live
from pipelines.fields.evaluation import Latency
from pipelines.progress import Silent
from pipelines.runner import LiveSession
from stages._examples import Examples, Preprocess
from targets.base import Arrays

SETTINGS = Latency(batch_sizes=(1, 4), runs=5, pairs=3, max_pairs=6, precision=0.2, time_limit_s=5)


class Sleeper:
    """Takes that many seconds an example."""

    input_names = ("pixels",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, inputs: Arrays) -> Arrays:
        time.sleep(self._seconds * len(inputs["pixels"]))
        return {"logits": np.zeros((len(inputs["pixels"]), 2), dtype=np.float32)}

    def close(self) -> None:
        """Nothing to give back."""


class Local:
    """A live session without a worker."""

    def __init__(self, seconds: float) -> None:
        self._live = Live.opened(lambda: Sleeper(seconds), 1, lambda *_: None)

    def call(self, method: str, **arguments: object) -> object:
        return self._live.facts() if method == "facts" else self._live.answer(method, arguments)  # type: ignore[arg-type]


@pytest.fixture
def examples(tmp_path: Path) -> str:
    pixels = np.zeros((6, 2, 2, 1), dtype=np.uint8)
    Examples(pixels, np.zeros(6, dtype=np.int64), Preprocess()).save(tmp_path)
    return str(tmp_path)


@pytest.fixture
def sessions() -> tuple[LiveSession, LiveSession]:
    return Local(0.004), Local(0.002)  # type: ignore[return-value]


def test_ratio_of_two_sessions_is_found_at_each_batch_size(
    sessions: tuple[LiveSession, LiveSession], examples: str
) -> None:
    found = time_batches(sessions, examples, SETTINGS, Silent())

    assert [samples.batch for samples in found.batches] == [1, 4]
    for samples in found.batches:
        assert 3 <= len(samples.pairs) <= 6
        assert all(len(pair.baseline) == len(pair.candidate) == 5 for pair in samples.pairs)
        assert samples.ratio(0).value == pytest.approx(2.0, rel=0.25)
    assert min(found.batches[1].pairs[0].baseline) >= 0.016
    assert min(found.peak_memory_bytes) > 1_000_000
    assert min(found.load_s) >= 0
    assert ArraySpeedSamples.model_validate_json(found.model_dump_json()) == found


def test_fewer_images_than_a_batch_are_refused_before_anything_runs(
    sessions: tuple[LiveSession, LiveSession], examples: str
) -> None:
    with pytest.raises(DataError) as caught:
        time_batches(sessions, examples, SETTINGS.model_copy(update={"batch_sizes": (1, 32)}), Silent())

    assert str(caught.value) == (
        "evaluation images: 6 do not fill a batch of 32\n\n"
        "hint: give more images, or smaller `evaluation.latency.batch_sizes`"
    )
