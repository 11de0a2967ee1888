"""The loop over two made-up models: a table of what follows each token."""

from pathlib import Path

import numpy as np
import pytest

from stages.base import Artifact
from targets._speculation import Greedy, common, drafting, speculate
from targets.base import SpeculatingSession, Tokens
from targets.dummy import Dummy, write_model

VOCABULARY = 20
PROMPT = np.array([3, 1, 4], dtype=np.int32)
FOLLOWS = np.random.default_rng(0).permutation(VOCABULARY).astype(np.int32)
"""Of the model that is checked against; a permutation goes round without standing still."""


def tokens(*ids: int) -> Tokens:
    return np.array(ids, dtype=np.int32)


def says(table: Tokens, calls: list[int] | None = None) -> Greedy:
    def greedy(sequence: Tokens, answers: int) -> Tokens:
        if calls is not None:
            calls.append(answers)
        return table[sequence[-answers:]]

    return greedy


def alone(n: int) -> tuple[int, ...]:
    made = [int(PROMPT[-1])]
    for _ in range(n):
        made.append(int(FOLLOWS[made[-1]]))
    return tuple(made[1:])


def wrong_at(*ids: int) -> Tokens:
    table = FOLLOWS.copy()
    table[list(ids)] = (table[list(ids)] + 1) % VOCABULARY
    return table


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 17])
@pytest.mark.parametrize("most", [1, 3, 4])
@pytest.mark.parametrize("share_wrong", [0.0, 0.3, 1.0])
def test_the_output_is_the_models_own_whatever_is_drafted(n: int, most: int, share_wrong: float) -> None:
    wrong = np.flatnonzero(np.random.default_rng(n).random(VOCABULARY) < share_wrong)

    made = speculate(PROMPT, n, most, drafting(says(wrong_at(*wrong)), VOCABULARY), says(FOLLOWS))

    assert made.tokens == alone(n)
    assert made.steps + made.accepted == n
    assert made.drafted <= most * made.steps


def test_a_draft_that_is_always_right_is_accepted_whole() -> None:
    calls: list[int] = []

    made = speculate(PROMPT, 10, 4, drafting(says(FOLLOWS), VOCABULARY), says(FOLLOWS, calls))

    assert (made.drafted, made.accepted, made.steps) == (7, 7, 3)
    assert calls == [1, 5, 4]


def test_a_draft_that_is_always_wrong_costs_a_step_a_token() -> None:
    made = speculate(PROMPT, 6, 4, drafting(says(wrong_at(*range(VOCABULARY))), VOCABULARY), says(FOLLOWS))

    assert (made.accepted, made.steps) == (0, 6)
    assert made.drafted == 0 + 4 + 3 + 2 + 1 + 0


def test_what_was_drafted_after_a_wrong_token_does_not_count() -> None:
    second = alone(2)[0]

    made = speculate(PROMPT, 5, 4, drafting(says(wrong_at(second)), VOCABULARY), says(FOLLOWS))

    assert made.tokens == alone(5)
    assert made.accepted < made.drafted


def test_no_more_is_drafted_than_is_wanted() -> None:
    calls: list[int] = []

    speculate(PROMPT, 3, 8, drafting(says(FOLLOWS), VOCABULARY), says(FOLLOWS, calls))

    assert calls == [1, 2]


def test_a_token_of_one_vocabulary_alone_ends_the_proposal() -> None:
    table = np.arange(1, VOCABULARY + 1, dtype=np.int32)
    propose = drafting(says(table), 10)

    assert propose(tokens(7), 6).tolist() == [8, 9]
    assert propose(tokens(9), 6).tolist() == []
    assert propose(tokens(12, 5), 6).tolist() == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 5, 3], 1), ([4], [5], 0)],
)
def test_what_two_sequences_begin_with(one: list[int], other: list[int], same: int) -> None:
    assert common(tokens(*one), tokens(*other)) == same


def test_a_session_speculates_as_it_generates(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 20
    folders = [tmp_path / name for name in ("model", "draft")]
    for folder, part in zip(folders, (text, text[:50]), strict=True):
        folder.mkdir()
        write_model(folder, part)
    model, draft = (Artifact(kind="dummy", path=folder, digest=folder.name) for folder in folders)
    session = Dummy().open(model, 1, 64)
    session.load_draft(draft, 3)

    assert isinstance(session, SpeculatingSession)
    made = session.speculate(session.encode("the qu"), 30)
    assert made.tokens == session.generate(session.encode("the qu"), 30).tokens
    assert 0 < made.accepted <= made.drafted
