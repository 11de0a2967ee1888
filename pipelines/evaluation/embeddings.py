"""How closely a candidate's embeddings keep the directions, and the neighbours, of the reference's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import DRAWS, Floats, tail
from pipelines.measures import Interval

Embeddings = NDArray[np.float32]
"""Shape (examples, width)."""
CHUNK = 100
"""Draws, and queries, at a time: 10,000 draws of 10,000 examples at once would take 800 MB."""


def cosine_agreement(candidate: Embeddings, reference: Embeddings, seed: int) -> Interval:
    """Mean cosine between both embeddings of the same example, in -1..1; an embedding of length 0 counts as 0."""
    return _mean(np.sum(_unit(candidate) * _unit(reference), axis=1), seed)


def rank_agreement(candidate: Embeddings, reference: Embeddings, k: int, seed: int) -> Interval:
    """Mean share, in 0..1, of an example's k nearest others by cosine that are the same in both embeddings.

    Every example is a query against all others. The interval takes queries as independent, which they nearly are.
    """
    mine, theirs = _unit(candidate), _unit(reference)
    shares = [
        _common(_nearest(mine, start, k), _nearest(theirs, start, k), len(mine)) for start in range(0, len(mine), CHUNK)
    ]
    return _mean(np.concatenate(shares) / k, seed)


def _unit(embeddings: Embeddings) -> Floats:
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit


def _nearest(unit: Floats, start: int, k: int) -> NDArray[np.int64]:
    """The k nearest others of examples [start, start + CHUNK), shape (queries, k), in no order."""
    queries = unit[start : start + CHUNK]
    cosines = queries @ unit.T
    cosines[np.arange(len(queries)), np.arange(start, start + len(queries))] = -np.inf
    return np.argpartition(-cosines, k - 1, axis=1)[:, :k]


def _common(mine: NDArray[np.int64], theirs: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How many numbers below n each row of both has in common."""
    marked = np.zeros((len(mine), n), dtype=np.bool_)
    np.put_along_axis(marked, theirs, True, axis=1)
    common: NDArray[np.int64] = np.take_along_axis(marked, mine, axis=1).sum(axis=1)
    return common


def _mean(values: Floats, seed: int) -> Interval:
    """A mean with the interval of `bootstrap.bootstrap`, drawn in chunks."""
    generator, n, value = np.random.default_rng(seed), len(values), float(values.mean())
    means = [values[generator.integers(0, n, size=(CHUNK, n))].mean(axis=1) for _ in range(DRAWS // CHUNK)]
    low, high = np.quantile(np.concatenate(means), [tail(n), 1 - tail(n)])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
