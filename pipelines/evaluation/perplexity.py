"""Perplexity and its change against the reference, over windows of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import Floats, bootstrap
from pipelines.evaluation.scores import Scores
from pipelines.measures import Metric, metric

MOST_NATS = 700.0
"""exp of 710 is beyond a float, and JSON has no infinity."""


def perplexity(candidate: Scores, reference: Scores | None, seed: int) -> Metric:
    """exp(mean negative log-likelihood a token), with intervals bootstrapped over windows.

    A window is the unit that is drawn: tokens of one window are not independent.
    """
    loss = _loss(candidate)
    n, tokens = candidate.logp.shape
    value = bootstrap(lambda drawn: _mean_exp(loss, drawn), n, seed)
    how = f"{n} windows, {tokens} predicted tokens each, bootstrap over windows"
    if reference is None:
        return metric("perplexity", value, n, how)
    base = _loss(reference)

    change = bootstrap(lambda drawn: _mean_exp(loss, drawn) - _mean_exp(base, drawn), n, seed)
    relative = bootstrap(lambda drawn: _mean_exp(loss - base, drawn) - 1, n, seed)
    return metric("perplexity", value, n, how, change, relative)


def _mean_exp(loss: Floats, drawn: NDArray[np.int64]) -> Floats:
    """Exp of the mean over each draw's windows, shape (draws,); finite however bad the model is."""
    result: Floats = np.exp(np.minimum(loss[drawn].mean(axis=1), MOST_NATS))
    return result


def _loss(scores: Scores) -> Floats:
    loss: Floats = -scores.logp.astype(np.float64).mean(axis=1)
    return loss
