import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import Table, random_table, random_windows

from pipelines.evaluation.agreement import exact_match, kl_divergence, self_agreement, top1_agreement
from pipelines.evaluation.scores import Scores, score

VOCABULARY = 24
WINDOWS = random_windows(5, 30, VOCABULARY)
SEEDS = st.integers(0, 2**16)


def scored(seed: int, top_k: int, noise: float = 1.0) -> tuple[Scores, Scores, float]:
    """A reference, a noisy copy of it, and the mean divergence over the whole vocabulary."""
    table = random_table(VOCABULARY, seed)
    reference, candidate = Table(table), Table(table + random_table(VOCABULARY, seed + 1, noise))
    theirs = score(reference, WINDOWS, top_k)
    mine = score(candidate, WINDOWS, top_k, reference_ids=theirs.top_ids)
    return mine, theirs, float(full_divergence(reference.table, candidate.table)[WINDOWS[:, :-1]].mean())


def full_divergence(p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64]:
    logp, logq = (each - np.log(np.exp(each).sum(axis=1, keepdims=True)) for each in (p.astype(float), q.astype(float)))
    found: NDArray[np.float64] = (np.exp(logp) * (logp - logq)).sum(axis=1)
    return found


@given(SEEDS, st.integers(1, VOCABULARY - 1), st.sampled_from([0.05, 0.5, 3.0]))
@settings(max_examples=25, deadline=None)
def test_coarse_divergence_is_a_lower_bound(seed: int, top_k: int, noise: float) -> None:
    mine, theirs, full = scored(seed, top_k, noise)

    found = kl_divergence(mine, theirs, seed=0)

    assert 0 <= found.low <= found.value <= found.high
    assert found.value <= full + 1e-5


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_divergence_over_the_whole_vocabulary_is_exact(seed: int) -> None:
    mine, theirs, full = scored(seed, VOCABULARY)

    assert kl_divergence(mine, theirs, seed=0).value == pytest.approx(full, rel=1e-4, abs=1e-5)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_more_tokens_kept_bring_the_bound_closer(seed: int) -> None:
    found = [kl_divergence(*scored(seed, top_k)[:2], seed=0).value for top_k in (1, 4, 12, VOCABULARY)]

    assert found == sorted(found)


def test_divergence_from_the_reference_to_itself_is_nothing() -> None:
    _, theirs, _ = scored(0, 6)

    assert kl_divergence(theirs, theirs, seed=0).value == pytest.approx(0, abs=1e-9)


def test_divergence_says_how_it_was_computed() -> None:
    mine, theirs, _ = scored(0, 6)

    found = kl_divergence(mine, theirs, seed=0)

    assert (found.unit, found.n, found.higher_is_better) == ("nats", 5, False)
    assert found.how == "reference's top 6 tokens and the rest as one, a lower bound"


def test_token_that_a_model_rules_out_gives_a_large_but_finite_divergence() -> None:
    _, theirs, _ = scored(0, 6)
    ruled_out = np.where(np.arange(6) == 0, -np.inf, theirs.top_logp).astype(np.float32)
    mine = Scores(theirs.logp, theirs.top1, theirs.top_ids, ruled_out)

    assert 10 < kl_divergence(mine, theirs, seed=0).value < 101
    assert kl_divergence(theirs, mine, seed=0).value < 101


def test_agreement_counts_positions_with_the_same_most_likely_token() -> None:
    _, theirs, _ = scored(0, 1)
    top1 = theirs.top1.copy()
    top1[0, :] += 1

    found = top1_agreement(Scores(theirs.logp, top1, theirs.top_ids, theirs.top_logp), theirs, seed=0)

    assert found.value == pytest.approx(0.8)
    assert (found.n, found.how) == (5, "145 positions, bootstrap over windows")
    assert found.low < found.value < found.high


def test_exact_match_counts_whole_continuations() -> None:
    found = exact_match([[1, 2], [3, 4], [5, 7], [8, 9]], [[1, 2], [3, 4], [5, 6], [8, 9]])

    assert (found.value, found.n, found.how) == (0.75, 4, "2 greedy tokens a prompt")


def test_exact_match_of_different_numbers_of_prompts_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        exact_match([[1]], [[1], [2]])


@pytest.mark.parametrize(("name", "value"), [("top1_agreement", 1.0), ("exact_match", 1.0), ("kl_divergence", 0.0)])
def test_reference_agrees_with_itself(name: str, value: float) -> None:
    assert self_agreement(name).interval.model_dump() == {"value": value, "low": value, "high": value}
