from pathlib import Path

import numpy as np
import pytest

from stages._calibration import INPUT, required
from stages._examples import Examples, Preprocess
from stages._inputs import Feed
from stages._onnx_parity import Array, Parity, compared, refuse_beyond
from stages.base import Artifact, Context, Refused

NAMES = ("pixels",)


def model(feed: Feed) -> dict[str, Array]:
    pixels = feed["pixels"]
    return {"logits": pixels.reshape(len(pixels), 3, -1).sum(axis=2)}


def swapped(batch: Feed) -> dict[str, Array]:
    return {"logits": model(batch)["logits"][:, [1, 0, 2]]}


@pytest.fixture
def examples() -> Examples:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 4, 3)).astype(np.uint8)
    return Examples(pixels, np.zeros(100, dtype=np.int64), Preprocess())


def test_a_model_agrees_with_itself_on_64_examples(examples: Examples) -> None:
    parity = compared(model, model, examples, NAMES)

    assert parity.examples == 64
    assert parity.max_difference == parity.mean_difference == parity.relative == 0
    assert parity.same_top1 == 1
    refuse_beyond(parity, 1e-9, "the graph", "")


def test_two_swapped_channels_are_refused(examples: Examples) -> None:
    parity = compared(model, swapped, examples, NAMES)

    assert parity.same_top1 < 0.6
    with pytest.raises(Refused) as caught:
        refuse_beyond(parity, 1e-3, "the graph does not agree", "look at it")
    assert caught.value.message.startswith("the graph does not agree: outputs differ by up to 0.")
    assert caught.value.message.endswith(" of their scale on 64 real inputs, allowed 0.001")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_beyond_every_tolerance(examples: Examples, value: float) -> None:
    parity = compared(model, lambda batch: {"logits": model(batch)["logits"] * value}, examples, NAMES)

    assert parity.relative == np.inf
    with pytest.raises(Refused):
        refuse_beyond(parity, 1e9, "the graph", "")


def test_outputs_of_another_shape_are_refused(examples: Examples) -> None:
    with pytest.raises(Refused, match=r"the outputs changed from logits \[16, 3\] to logits \[16, 2\]"):
        compared(model, lambda batch: {"logits": model(batch)["logits"][:, :2]}, examples, NAMES)


def test_facts_keep_three_digits() -> None:
    parity = Parity(examples=2, max_difference=0.12345, mean_difference=0.01, scale=2, same_top1=1)

    assert parity.facts() == {
        "examples": 2,
        "max_difference": 0.123,
        "mean_difference": 0.01,
        "scale": 2.0,
        "same_top1": 1.0,
        "relative_difference": 0.0617,
    }


def test_calibration_examples_are_asked_for_by_the_key_that_gives_them(tmp_path: Path, examples: Examples) -> None:
    with pytest.raises(Refused) as caught:
        required(Context(out=tmp_path, scratch=tmp_path), "quantize_onnx")
    assert caught.value.message == "`quantize_onnx` looks at real inputs, and there are none"
    assert caught.value.hint == "name `data: calibration:`"

    examples.save(tmp_path)
    given = {INPUT: Artifact(kind="examples", path=tmp_path, digest="0")}
    assert len(required(Context(out=tmp_path, scratch=tmp_path, inputs=given), "quantize_onnx")) == 100
