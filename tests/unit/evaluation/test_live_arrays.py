import json
from pathlib import Path

import numpy as np
import pytest
from classifiers import Linear

from pipelines.evaluation.live import Live
from pipelines.evaluation.live_arrays import METHODS, LiveArrays
from stages._examples import Examples, Preprocess
from stages.base import Refused
from targets.base import Arrays

Move = tuple[float, float, str]
RANDOM = np.random.default_rng(0)


@pytest.fixture
def moved() -> list[Move]:
    return []


@pytest.fixture
def session() -> Linear:
    return Linear(RANDOM.normal(size=(12, 5)))


@pytest.fixture
def live(session: Linear, moved: list[Move]) -> LiveArrays:
    return opened(session, moved)


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    pixels = RANDOM.integers(0, 256, (10, 2, 2, 3), dtype=np.uint8)
    made = Examples(pixels, np.arange(10) % 5, Preprocess(scale=1 / 255, mean=(0.4, 0.5, 0.6)))
    made.save(tmp_path)
    return made


def opened(session: object, moved: list[Move]) -> LiveArrays:
    live = Live.opened(lambda: session, 1, lambda *move: moved.append(move))  # type: ignore[arg-type,return-value]
    assert isinstance(live, LiveArrays)
    return live


def test_session_over_arrays_answers_as_one(live: LiveArrays) -> None:
    facts = live.facts()

    assert facts["input_names"] == ["pixels"]
    assert isinstance(facts["load_s"], float)
    assert json.loads(json.dumps(facts)) == facts


def test_every_example_is_run_in_batches(
    tmp_path: Path, live: LiveArrays, session: Linear, examples: Examples, moved: list[Move]
) -> None:
    out = tmp_path / "outputs.npy"

    live.answer("predict", {"examples": str(tmp_path), "batch": 4, "out": str(out)})

    found = np.load(out, allow_pickle=False)
    expected = examples.batch(0, 10).reshape(10, -1) @ session.weights
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-6)
    assert found.dtype == np.float32
    assert session.batches == [4, 4, 2]
    assert moved == [(4, 10, "images"), (8, 10, "images"), (10, 10, "images")]


def test_output_of_more_axes_is_a_row_an_example(tmp_path: Path, examples: Examples) -> None:
    class Maps(Linear):
        def run(self, inputs: Arrays) -> Arrays:
            return {"maps": inputs["pixels"]}

    opened(Maps(np.eye(1)), []).predict(str(tmp_path), 3, str(tmp_path / "outputs.npy"))

    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), examples.batch(0, 10).reshape(10, 12))


def test_calls_are_timed_one_by_one_after_a_warm_up(tmp_path: Path, examples: Examples) -> None:
    session = Linear(np.ones((12, 2)), delay_s=0.002)

    answer = opened(session, []).answer("time_batch", {"examples": str(tmp_path), "batch": 3, "runs": 5})

    assert isinstance(answer, dict)
    assert list(answer) == ["seconds"]
    seconds = answer["seconds"]
    assert isinstance(seconds, list)
    assert len(seconds) == 5
    assert all(isinstance(each, float) and each >= 0.002 for each in seconds)
    assert session.batches == [3] * 6


def test_model_that_loses_the_batch_is_refused(tmp_path: Path, examples: Examples) -> None:
    class Summed(Linear):
        def run(self, inputs: Arrays) -> Arrays:
            return {"sum": inputs["pixels"].sum(axis=0, keepdims=True)}

    with pytest.raises(Refused) as caught:
        opened(Summed(np.eye(1)), []).predict(str(tmp_path), 4, str(tmp_path / "outputs.npy"))

    assert caught.value.message == "the model's first output has the shape (1, 3, 2, 2) for 4 examples"


def test_images_are_not_fed_to_a_model_of_several_inputs(tmp_path: Path, examples: Examples) -> None:
    class Pair(Linear):
        @property
        def input_names(self) -> tuple[str, ...]:
            return ("left", "right")

    with pytest.raises(Refused) as caught:
        opened(Pair(np.eye(1)), []).predict(str(tmp_path), 4, str(tmp_path / "outputs.npy"))

    assert caught.value.message == "the model takes 2 inputs (left, right), and labelled images fill one"


def test_memory_is_told_and_the_session_closed(live: LiveArrays, session: Linear) -> None:
    peak = live.answer("peak_memory", {})

    assert isinstance(peak, int)
    assert peak > 10_000_000
    assert live.answer("forget_peak_memory", {}) in {True, False}
    assert not session.closed
    live.answer("close", {})
    assert session.closed


@pytest.mark.parametrize("method", ["facts", "answer", "score", "generate", "__init__", "_session", ""])
def test_only_the_named_calls_are_answered(live: LiveArrays, method: str) -> None:
    with pytest.raises(ValueError, match="no such call"):
        live.answer(method, {})


def test_every_named_call_is_there(live: LiveArrays) -> None:
    assert all(callable(getattr(live, method)) for method in METHODS)
