import numpy as np
import pytest

from stages._onnx_judge import MOST_DB, Judged, best, split, sqnr_db
from stages.base import Refused


def judged(agreement: float, noise: float) -> Judged:
    return Judged(examples=100, agreement=agreement, sqnr_db=noise)


def test_no_example_both_calibrates_and_judges() -> None:
    parts = split(count=400, used=200, judging=0.25, seed=3)

    assert (len(parts.calibrating), len(parts.judging)) == (150, 50)
    assert not set(parts.calibrating) & set(parts.judging)
    assert sorted({*parts.calibrating, *parts.judging}) == list(np.linspace(0, 399, 200).round().astype(int))


def test_data_in_the_order_of_their_classes_is_judged_on_every_class() -> None:
    labels = np.arange(200) % 10
    parts = split(count=200, used=200, judging=0.5, seed=0)

    assert set(labels[parts.judging]) == set(labels[parts.calibrating]) == set(range(10))


def test_without_a_judge_every_example_calibrates() -> None:
    assert len(split(count=10, used=10, judging=0.0, seed=0).calibrating) == 10


def test_one_example_cannot_do_both() -> None:
    with pytest.raises(Refused, match="1 calibration examples cannot be split"):
        split(count=10, used=1, judging=0.5, seed=0)


def test_a_tenth_of_the_amplitude_is_twenty_decibel() -> None:
    signal = np.array([[3.0, 4.0]])

    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20)
    assert sqnr_db(signal, signal) == MOST_DB
    assert sqnr_db(signal, signal * np.nan) == -MOST_DB


def test_noise_decides_among_methods_whose_agreement_chance_could_have_swapped() -> None:
    assert best([("a", judged(0.98, 20)), ("b", judged(0.97, 25)), ("c", judged(0.5, 40))]) == "b"
    assert best([("a", judged(0.98, 20)), ("b", judged(0.90, 25))]) == "a"


def test_the_interval_is_wilsons() -> None:
    low, high = judged(0.97, 20).interval

    assert (round(low, 4), round(high, 4)) == (0.9155, 0.9897)
