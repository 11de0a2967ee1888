"""How often, and how closely, a candidate says what the reference says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import bootstrap, exactly, wilson
from pipelines.evaluation.scores import Scores
from pipelines.measures import Metric, metric

LEAST_NATS = -100.0
"""A token that a model rules out has the log-probability -inf; e^-100 is as good as never, and stays a number."""
LEAST_REST = 1e-6
"""Log-probabilities in float32 add up to 1 no closer than this."""


def top1_agreement(candidate: Scores, reference: Scores, seed: int) -> Metric:
    """Share of positions where both hold the same token most likely."""
    same = (candidate.top1 == reference.top1).mean(axis=1)
    value = bootstrap(lambda drawn: same[drawn].mean(axis=1), len(same), seed)
    return metric("top1_agreement", value, len(same), f"{candidate.top1.size} positions, bootstrap over windows")


def kl_divergence(candidate: Scores, reference: Scores, seed: int) -> Metric:
    """Mean KL(reference || candidate) a position, in nats, on a coarsened vocabulary.

    The reference's k most likely tokens are k outcomes and all others together are one more, so the figure is a lower
    bound of the divergence over the whole vocabulary (data processing inequality; Cover and Thomas 2006, 2.8).
    """
    each = _coarse_divergence(reference.top_logp, candidate.top_logp).mean(axis=1)
    value = bootstrap(lambda drawn: each[drawn].mean(axis=1), len(each), seed)
    k = reference.top_ids.shape[2]
    return metric("kl_divergence", value, len(each), f"reference's top {k} tokens and the rest as one, a lower bound")


def exact_match(candidate: list[list[int]], reference: list[list[int]]) -> Metric:
    """Share of prompts whose greedy continuation is the reference's, token for token."""
    same = sum(mine == theirs for mine, theirs in zip(candidate, reference, strict=True))
    length = len(reference[0]) if reference else 0
    return metric("exact_match", wilson(same, len(reference)), len(reference), f"{length} greedy tokens a prompt")


def self_agreement(name: str) -> Metric:
    """What the reference says of itself."""
    return metric(name, exactly(0.0 if name == "kl_divergence" else 1.0), 1, "the reference itself")


def _coarse_divergence(p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL over the last axis of log-probabilities, with the missing mass of both as one more outcome."""
    logp, logq = (np.maximum(each.astype(np.float64), LEAST_NATS) for each in (p, q))
    mass = np.exp(logp)
    rest_p = np.clip(1 - mass.sum(axis=-1), LEAST_REST, 1)
    rest_q = np.clip(1 - np.exp(logq).sum(axis=-1), LEAST_REST, 1)
    total: NDArray[np.float64] = (mass * (logp - logq)).sum(axis=-1) + rest_p * (np.log(rest_p) - np.log(rest_q))
    return np.maximum(total, 0.0)
