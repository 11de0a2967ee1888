from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import Table, random_table, random_windows

from pipelines.evaluation.scores import ROWS, Scores, score
from targets.base import Tokens

NAMES = ("logp", "top1", "top_ids", "top_logp")


def plain_log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def same(one: Scores, other: Scores) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in NAMES)


@given(
    vocabulary=st.integers(2, 40),
    length=st.integers(2, 3 * ROWS),
    threads=st.integers(1, 3),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_score_agrees_with_a_plain_float64_log_softmax(
    vocabulary: int, length: int, threads: int, scale: float, seed: int
) -> None:
    session = Table(random_table(vocabulary, seed, scale))
    windows = random_windows(3, length, vocabulary, seed)

    scores = score(session, windows, top_k=5, threads=threads)

    expected = plain_log_softmax(session.table)[windows[:, :-1]]
    targets = np.take_along_axis(expected, windows[:, 1:, None].astype(np.int64), axis=2)[..., 0]
    np.testing.assert_allclose(scores.logp, targets, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scores.top1, session.table[windows[:, :-1]].argmax(axis=2))
    kept = np.take_along_axis(expected, scores.top_ids.astype(np.int64), axis=2)
    np.testing.assert_allclose(scores.top_logp, kept, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kept, -np.sort(-expected, axis=2)[..., :5], rtol=1e-6)
    assert scores.top_ids.shape == (3, length - 1, min(5, vocabulary))


def test_candidate_is_scored_on_the_references_most_likely_tokens() -> None:
    reference, candidate = Table(random_table(30, 1)), Table(random_table(30, 2))
    windows = random_windows(2, 20, 30)
    theirs = score(reference, windows, top_k=4)

    mine = score(candidate, windows, top_k=4, reference_ids=theirs.top_ids)

    np.testing.assert_array_equal(mine.top_ids, theirs.top_ids)
    expected = plain_log_softmax(candidate.table)[windows[:, :-1]]
    kept = np.take_along_axis(expected, theirs.top_ids.astype(np.int64), axis=2)
    np.testing.assert_allclose(mine.top_logp, kept, rtol=1e-5, atol=1e-5)


@given(cut=st.integers(1, 5), threads=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_parts_joined_are_the_whole(cut: int, threads: int) -> None:
    session, windows = Table(random_table(20, 3)), random_windows(6, 25, 20)
    whole = score(session, windows, top_k=3)

    parts = [score(session, part, top_k=3, threads=threads) for part in (windows[:cut], windows[cut:])]

    assert same(Scores.join(parts), whole)


def test_saved_scores_are_the_same_scores(tmp_path: Path) -> None:
    scores = score(Table(random_table(20, 3)), random_windows(2, 9, 20), top_k=3)
    scores.save(tmp_path / "scores.npz")

    assert same(Scores.load(tmp_path / "scores.npz"), scores)


def test_pickled_scores_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", **{name: np.array([{}], dtype=object) for name in NAMES})

    with pytest.raises(ValueError, match="allow_pickle=False"):
        Scores.load(tmp_path / "scores.npz")


def test_large_logits_do_not_overflow() -> None:
    table = np.array([[1e4, 0.0], [0.0, 1e4]])
    windows = np.array([[0, 0, 1]], dtype=np.int32)

    scores = score(Table(table), windows, top_k=1)

    np.testing.assert_allclose(scores.logp, [[0.0, -1e4]])
    assert scores.broken == 0


def test_progress_counts_windows() -> None:
    done: list[int] = []

    score(Table(random_table(4, 0)), random_windows(3, 4, 4), 1, progress=done.append)

    assert done == [1, 2, 3]


@pytest.mark.parametrize(("bad", "count"), [(np.nan, 4), (np.inf, 4)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tokens_without_a_finite_log_probability_are_counted(bad: float, count: int) -> None:
    table = random_table(8, 0)
    table[3] = bad
    windows: Tokens = np.array([[3, 1, 3, 2, 3, 3], [3, 1, 1, 1, 1, 1]], dtype=np.int32)

    assert score(Table(table), windows, top_k=2).broken == count
