"""Embeddings are judged by direction: the greatest of their values is no answer."""

import math

import numpy as np
import pytest

from stages._onnx_judge import Judged, cosines
from stages._openvino_compress import Validation
from stages.quantize_onnx import BackOff, QuantizeOnnx


def test_cosine_is_of_each_row_with_its_own_counterpart() -> None:
    expected = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    got = np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [math.nan, 1.0]])

    assert cosines(expected, got).tolist() == [1, 0, 0, 0]


def test_a_mean_has_the_interval_of_a_mean_and_is_called_one() -> None:
    found = Judged(examples=100, agreement=0.99, sqnr_db=20, deviation=0.01)

    assert found.interval == pytest.approx((0.99 - 0.00196, 0.99 + 0.00196))
    assert (found.told, Judged(examples=1, agreement=1, sqnr_db=1).told) == ("mean cosine", "same top-1")


def test_back_off_aims_at_the_budget_on_cosine() -> None:
    aimed = QuantizeOnnx(back_off=BackOff()).under({"cosine_agreement": 0.995})

    assert isinstance(aimed, QuantizeOnnx)
    assert aimed.back_off is not None
    assert aimed.back_off.min_agreement == 0.995


def test_accuracy_control_counts_cosines_of_embeddings_and_classes_of_classifiers() -> None:
    class Shown:
        what = "texts"

        def __len__(self) -> int:
            return 2

        def feed(self, rows: np.ndarray, names: object) -> dict[str, np.ndarray]:
            return {"x": rows}

    def compiled(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.array([[0.0, 2.0]], dtype=np.float32)]

    embeddings = {0: np.array([0.0, 1.0], dtype=np.float32), 1: np.array([1.0, 0.0], dtype=np.float32)}
    of_embeddings = Validation(Shown(), ("x",), (0, 1), embeddings, 0.01)
    of_classes = Validation(Shown(), ("x",), (0, 1), {0: 1, 1: 1}, 0.01)

    assert of_embeddings(compiled, (0, 1))[0] == 0.5
    assert of_classes(compiled, (0, 1))[0] == 1
