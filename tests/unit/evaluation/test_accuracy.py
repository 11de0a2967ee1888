from pathlib import Path

import numpy as np
import pytest
from sessions import Table, random_table

from pipelines.evaluation.accuracy import Choices, accuracy, correct, log_likelihoods
from pipelines.evaluation.encoding import choices
from pipelines.evaluation.questions import Question

SESSION = Table(random_table(32, 0))
QUESTIONS = (
    Question(prompt="why so", choices=(" because", " no", " it is"), answer=1),
    Question(prompt="x", choices=(" yes", " not at all"), answer=0),
)
ENCODED = choices(SESSION, QUESTIONS)


def flags(*values: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, dtype=bool)


def test_likelihood_of_a_choice_is_the_sum_over_its_own_tokens() -> None:
    found = log_likelihoods(SESSION, ENCODED)

    logp = SESSION.table.astype(np.float64)
    logp -= np.log(np.exp(logp).sum(axis=1, keepdims=True))
    expected = []
    for question in QUESTIONS:
        for choice in question.choices:
            tokens = SESSION.encode(question.prompt + choice)
            start = len(question.prompt)
            expected.append(sum(logp[tokens[at - 1], tokens[at]] for at in range(start, len(tokens))))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_progress_counts_choices() -> None:
    done: list[int] = []

    log_likelihoods(SESSION, ENCODED, done.append)

    assert done == [1, 2, 3, 4, 5]


def test_most_likely_choice_a_token_on_average_is_the_models_answer() -> None:
    lengths = np.array([8, 3, 6, 4, 11])

    assert correct(ENCODED, lengths * np.array([-2.0, -1.0, -3.0, -1.0, -2.0])).tolist() == [True, True]
    assert correct(ENCODED, lengths * np.array([-2.0, -3.0, -1.0, -2.0, -1.0])).tolist() == [False, False]


def test_short_choice_is_not_preferred_for_being_short() -> None:
    sums = np.array([-16.0, -9.0, -18.0, -8.0, -11.0])  # " no" has the highest sum, " because" the highest mean

    assert correct(ENCODED, sums).tolist() == [False, False]


def test_choices_survive_a_file(tmp_path: Path) -> None:
    ENCODED.save(tmp_path / "task.npz")

    loaded = Choices.load(tmp_path / "task.npz")

    for name, array in vars(ENCODED).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.longest == len("why so because")


def test_drop_of_accuracy_is_a_negative_change_over_the_same_questions() -> None:
    found = accuracy("siqa", flags(*[1] * 40, *[0] * 60), flags(*[1] * 50, *[0] * 50))

    assert (found.name, found.value, found.n, found.unit, found.higher_is_better) == (
        "accuracy_siqa",
        0.4,
        100,
        "share",
        True,
    )
    assert found.change is not None
    assert found.relative is not None
    assert found.change.value == pytest.approx(-0.1)
    assert found.relative.value == pytest.approx(-0.2)
    assert found.change.high < 0
    assert found.relative.low == pytest.approx(found.change.low / 0.5)


def test_pairing_sees_a_change_that_two_shares_apart_would_not_show() -> None:
    reference = flags(*[1] * 100, *[0] * 100)
    candidate = flags(*[1] * 88, *[0] * 112)

    found = accuracy("siqa", candidate, reference)

    assert found.change is not None
    assert found.change.high < 0
    assert found.low < 0.44 < found.high
    assert found.high > 0.5


def test_reference_has_no_change_and_one_of_zero_no_relative_change() -> None:
    alone = accuracy("siqa", flags(1, 0), None)
    from_nothing = accuracy("siqa", flags(1, 0), flags(0, 0))

    assert (alone.change, alone.relative) == (None, None)
    assert from_nothing.change is not None
    assert from_nothing.relative is None
