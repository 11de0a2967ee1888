import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.evaluation.bootstrap import mcnemar, wilson
from pipelines.evaluation.classification import broken, classification_metrics, correct, top1_agreement

RANDOM = np.random.default_rng(0)


def outputs_for(answers: list[int], classes: int) -> NDArray[np.float32]:
    """Outputs whose highest are these answers."""
    return np.eye(classes, dtype=np.float32)[answers] + RANDOM.uniform(0, 0.5, (len(answers), classes)).astype("f4")


def test_accuracy_is_the_share_of_labels_with_the_highest_output() -> None:
    found = classification_metrics(outputs_for([0, 1, 2, 0], 3), None, np.array([0, 1, 2, 2]))

    accuracy = found["accuracy_top1"]
    assert accuracy.interval == wilson(3, 4)
    assert (accuracy.n, accuracy.unit, accuracy.change, accuracy.relative) == (4, "share", None, None)
    assert found["top1_agreement"].value == 1.0


def test_change_of_accuracy_is_paired() -> None:
    labels = np.arange(200) % 4
    right, wrong = labels.tolist(), ((labels + 1) % 4).tolist()
    reference = outputs_for(right[:160] + wrong[160:], 4)
    candidate = outputs_for(wrong[:10] + right[10:164] + wrong[164:], 4)

    found = classification_metrics(candidate, reference, labels)["accuracy_top1"]

    assert found.value == pytest.approx(154 / 200)
    assert found.change == mcnemar(correct(reference, labels), correct(candidate, labels))
    assert found.change is not None
    assert found.change.value == pytest.approx(-6 / 200)
    assert found.relative is not None
    assert found.relative.value == pytest.approx(-6 / 160)


def test_accuracy_hides_what_agreement_shows() -> None:
    labels = np.zeros(100, dtype=np.int64)
    reference = outputs_for([0] * 60 + [1] * 40, 3)
    candidate = outputs_for([1] * 30 + [0] * 60 + [2] * 10, 3)

    found = classification_metrics(candidate, reference, labels)

    change = found["accuracy_top1"].change
    assert change is not None
    assert change.value == 0
    assert found["top1_agreement"].value == pytest.approx(0.30)
    assert found["top1_agreement"].interval == wilson(30, 100)


def test_top5_is_measured_of_more_than_five_classes_alone() -> None:
    five, six = (outputs_for([0, 1, 2], classes) for classes in (5, 6))
    labels = np.array([0, 1, 2])

    assert set(classification_metrics(five, five, labels)) == {"accuracy_top1", "top1_agreement"}
    assert set(classification_metrics(six, six, labels)) == {"accuracy_top1", "accuracy_top5", "top1_agreement"}


def test_top5_counts_a_label_among_the_five_highest() -> None:
    row = np.array([[0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0]] * 7, dtype=np.float32)

    assert correct(row, np.arange(7), 5).tolist() == [False, True, True, True, True, True, False]


@given(st.integers(0, 2**16), st.integers(1, 7))
def test_ranks_are_those_of_a_stable_sort(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    coarse, labels = random.integers(0, 4, (20, 7)).astype(np.float32), random.integers(0, 7, 20)

    best = np.argsort(-coarse, axis=1, kind="stable")[:, :k]

    assert correct(coarse, labels, k).tolist() == (best == labels[:, None]).any(axis=1).tolist()


def test_model_that_answers_every_class_alike_is_right_by_chance() -> None:
    labels = np.arange(1000) % 10

    found = classification_metrics(np.zeros((1000, 10), dtype=np.float32), None, labels)

    assert (found["accuracy_top1"].value, found["accuracy_top5"].value) == (0.1, 0.5)


def test_reference_that_is_never_right_has_no_relative_change() -> None:
    candidate, reference = outputs_for([0, 0], 3), outputs_for([1, 1], 3)

    found = classification_metrics(candidate, reference, np.zeros(2, dtype=np.int64))["accuracy_top1"]

    assert found.change is not None
    assert found.change.value == 1.0
    assert found.relative is None


def test_agreement_is_with_the_answer_not_with_the_label() -> None:
    found = top1_agreement(outputs_for([1, 2, 2, 0], 3), outputs_for([1, 2, 0, 0], 3))

    assert found.value == 0.75
    assert found.how == "unchanged answers, Wilson interval"


def test_rows_that_are_not_finite_are_counted() -> None:
    outputs = np.zeros((5, 3), dtype=np.float32)
    outputs[1, 2], outputs[3, 0], outputs[3, 1] = np.nan, np.inf, -np.inf

    assert broken(outputs) == 2
    assert broken(outputs[:1]) == 0


def test_label_that_no_output_stands_for_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        classification_metrics(outputs_for([0, 1], 3), None, np.array([0, 3]))

    assert str(caught.value) == (
        "an example is of class 3, but the model has 3 outputs: 0 to 2\n\n"
        "hint: the data and the model must count the same classes"
    )
