import numpy as np
import pytest

from pipelines.evaluation.bootstrap import bootstrap
from pipelines.evaluation.embeddings import Searched, cosine_agreement, embedding_metrics, rank_agreement

RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.normal(size=(250, 16)).astype(np.float32)
NOISE = RANDOM.normal(size=(250, 16)).astype(np.float32)


def among(k: int, documents: int = 250, relevant: tuple[int, ...] = ()) -> Searched:
    return Searched(documents, np.array(relevant, dtype=np.int64), k)


def test_direction_counts_and_length_does_not() -> None:
    found = cosine_agreement(REFERENCE * 7, REFERENCE, seed=0)

    assert found.value == pytest.approx(1.0)
    assert cosine_agreement(-REFERENCE, REFERENCE, seed=0).value == pytest.approx(-1.0)


def test_mean_cosine_is_that_of_a_plain_computation_with_the_bootstrap_of_the_other_metrics() -> None:
    candidate = REFERENCE + 0.3 * NOISE
    each = (candidate * REFERENCE).sum(1) / np.linalg.norm(candidate, axis=1) / np.linalg.norm(REFERENCE, axis=1)

    found = cosine_agreement(candidate, REFERENCE, seed=0)

    assert found.value == pytest.approx(float(each.mean()), rel=1e-6)
    expected = bootstrap(lambda rows: each[rows].mean(axis=1).astype(float), len(each), seed=0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_embedding_of_length_nothing_agrees_with_nothing() -> None:
    candidate = REFERENCE.copy()
    candidate[:125] = 0

    assert cosine_agreement(candidate, REFERENCE, seed=0).value == pytest.approx(0.5)


def test_neighbours_are_the_same_in_the_same_embedding() -> None:
    assert rank_agreement(REFERENCE * 3, REFERENCE, among(10), seed=0).model_dump() == {"value": 1, "low": 1, "high": 1}


def test_neighbours_in_common_are_those_of_a_full_sort() -> None:
    candidate = REFERENCE + 0.5 * NOISE

    def neighbours(embeddings: np.ndarray) -> list[set[int]]:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        order = np.argsort(-(unit @ unit.T), axis=1)
        return [set([j for j in row if j != i][:5]) for i, row in enumerate(order.tolist())]

    pairs = zip(neighbours(candidate), neighbours(REFERENCE), strict=True)
    expected = np.mean([len(mine & theirs) / 5 for mine, theirs in pairs])

    found = rank_agreement(candidate, REFERENCE, among(5), seed=0)

    assert found.value == pytest.approx(float(expected))
    assert 0 < found.low < found.value < found.high < 1


def test_more_noise_keeps_fewer_neighbours() -> None:
    found = [
        rank_agreement(REFERENCE + noise * NOISE, REFERENCE, among(10), seed=0).value for noise in (0.01, 0.1, 1.0)
    ]

    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9


def test_queries_look_for_passages_and_not_for_one_another() -> None:
    queries = REFERENCE[200:]
    searched = among(5, documents=200)

    same = rank_agreement(REFERENCE, REFERENCE, searched, seed=0)
    moved = rank_agreement(np.concatenate([REFERENCE[:200][::-1], queries]), REFERENCE, searched, seed=0)

    assert same.value == 1
    assert moved.value < 0.2, "other passages in their places"


def test_recall_counts_the_queries_whose_own_passage_is_near_and_pairs_them_with_the_references() -> None:
    passages = np.eye(16, dtype=np.float32)
    reference = np.concatenate([passages, passages[:4]])
    candidate = np.concatenate([passages, passages[[0, 1, 2, 9]]])

    found = embedding_metrics(candidate, reference, among(1, 16, (0, 1, 2, 3)), seed=0)

    assert (found["recall"].value, found["recall"].n) == (0.75, 4)
    assert found["recall"].change is not None
    assert found["recall"].change.value == -0.25
    assert "the least is 0.0000" in found["cosine_agreement"].how


def test_without_queries_every_passage_asks_and_nothing_is_recalled() -> None:
    found = embedding_metrics(REFERENCE, REFERENCE, among(10), seed=0)

    assert {name: item.n for name, item in found.items()} == {"cosine_agreement": 250, "rank_agreement": 250}


def test_reference_agrees_with_itself() -> None:
    found = embedding_metrics(REFERENCE, None, among(3, 246, (0, 1, 2, 3)), seed=0)

    assert found["cosine_agreement"].value == found["rank_agreement"].value == 1
    assert found["recall"].change is None
