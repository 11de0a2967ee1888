from math import exp, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sessions import Table, of_losses, random_table, random_windows

from pipelines.evaluation.perplexity import perplexity
from pipelines.evaluation.scores import score
from pipelines.measures import Metric

LOSSES = st.tuples(st.integers(2, 12), st.integers(1, 6), st.integers(0, 2**16)).map(
    lambda shape: np.random.default_rng(shape[2]).uniform(0.1, 8, (2, *shape[:2]))
)


@given(LOSSES)
@settings(max_examples=20, deadline=None)
def test_relative_change_is_exp_of_the_mean_difference_less_1(losses: NDArray[np.float64]) -> None:
    mine, theirs = of_losses(losses[0]), of_losses(losses[1])

    found = perplexity(mine, theirs, seed=0)

    assert found.change is not None
    assert found.relative is not None
    difference = (theirs.logp.astype(np.float64) - mine.logp).mean()
    assert found.relative.value == pytest.approx(exp(difference) - 1, rel=1e-9, abs=1e-9)
    assert found.value == pytest.approx(exp(-mine.logp.astype(np.float64).mean()))
    assert found.value / (1 + found.relative.value) == pytest.approx(found.value - found.change.value)
    for part in (found.interval, found.change, found.relative):
        assert part.low <= part.value <= part.high


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    scores = score(Table(np.zeros((50, 50))), random_windows(4, 9, 50), top_k=1)

    found = perplexity(scores, None, seed=0)

    assert found.value == pytest.approx(50, rel=1e-6)
    assert (found.n, found.change, found.relative) == (4, None, None)
    assert found.how == "4 windows, 8 predicted tokens each, bootstrap over windows"


def test_pairing_takes_what_windows_have_in_common_out_of_the_interval() -> None:
    """Windows differ by nats, the models by hundredths: only a paired interval sees the difference."""
    generator = np.random.default_rng(0)
    theirs = generator.normal(3, 1, (16, 1)) + generator.normal(0, 0.1, (16, 30))
    mine = theirs + generator.normal(0.02, 0.005, (16, 30))

    found = perplexity(of_losses(mine), of_losses(theirs), seed=0)

    assert found.relative is not None
    assert found.relative.low > 0.01
    assert found.relative.high < 0.03
    assert found.high / found.low > 1.5


def test_the_same_model_has_not_changed_at_all() -> None:
    scores = of_losses(np.random.default_rng(0).uniform(1, 5, (8, 20)))

    found = perplexity(scores, scores, seed=0)

    assert found.change is not None
    assert found.relative is not None
    assert found.change.model_dump() == found.relative.model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_perplexity_of_a_hopeless_model_is_still_a_number_in_json() -> None:
    found = perplexity(of_losses(np.full((4, 5), 5000.0)), of_losses(np.full((4, 5), 2.0)), seed=0)

    assert found.value < inf
    assert Metric.model_validate_json(found.model_dump_json()) == found


def test_worse_model_has_a_positive_change() -> None:
    good, bad = (score(Table(random_table(20, 0, scale)), random_windows(4, 30, 20), 1) for scale in (0.1, 6.0))

    found = perplexity(bad, good, seed=0)

    assert found.relative is not None
    assert found.relative.low > 0
    assert not found.higher_is_better
