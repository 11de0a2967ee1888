"""How closely a candidate's embeddings keep the directions, and the neighbours, of the reference's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.agreement import self_agreement
from pipelines.evaluation.bootstrap import DRAWS, Floats, mcnemar, tail, wilson
from pipelines.measures import Interval, Metric, metric

Embeddings = NDArray[np.float32]
"""Shape (examples, width)."""
CHUNK = 100
"""Draws, and queries, at a time: 10,000 draws of 10,000 examples at once would take 800 MB."""


@dataclass(frozen=True)
class Searched:
    """The first `documents` rows are searched by the rest, or by one another where there is no rest.

    `relevant` (queries,) numbers the document that answers each query; `neighbours` is how many are looked at.
    """

    documents: int
    relevant: NDArray[np.int64]
    neighbours: int


def embedding_metrics(
    candidate: Embeddings, reference: Embeddings | None, searched: Searched, seed: int
) -> dict[str, Metric]:
    """Every metric of an encoder against the reference on the same texts; None: of the reference itself."""
    found = _agreements(candidate, reference, searched, seed)
    if len(searched.relevant):
        found.append(_recall(candidate, reference, searched))
    return {item.name: item for item in found}


def cosine_agreement(candidate: Embeddings, reference: Embeddings, seed: int) -> Interval:
    """Mean cosine between both embeddings of the same example, in -1..1; an embedding of length 0 counts as 0."""
    return _mean(_cosines(candidate, reference), seed)


def rank_agreement(candidate: Embeddings, reference: Embeddings, searched: Searched, seed: int) -> Interval:
    """Mean share, in 0..1, of a query's nearest documents by cosine that are the same in both embeddings.

    Documents without queries are each a query against all others; the interval takes queries as independent, which
    they nearly are then.
    """
    mine, theirs = nearest(candidate, searched), nearest(reference, searched)
    return _mean(_common(mine, theirs, searched.documents) / mine.shape[1], seed)


def nearest(embeddings: Embeddings, searched: Searched) -> NDArray[np.int64]:
    """The nearest documents of every query by cosine, shape (queries, neighbours), in no order."""
    unit, documents = _unit(embeddings), searched.documents
    among = unit[:documents]
    alone = len(unit) == documents
    most = min(searched.neighbours, documents - alone)
    found = []
    for start in range(0 if alone else documents, len(unit), CHUNK):
        cosines = unit[start : start + CHUNK] @ among.T
        if alone:
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found.append(np.argpartition(-cosines, most - 1, axis=1)[:, :most])
    return np.concatenate(found)


def _agreements(candidate: Embeddings, reference: Embeddings | None, searched: Searched, seed: int) -> list[Metric]:
    if reference is None:
        return [self_agreement("cosine_agreement"), self_agreement("rank_agreement")]
    n = len(candidate)
    cosine, least = cosine_agreement(candidate, reference, seed), _cosines(candidate, reference).min()
    asked = n - searched.documents or n
    how = f"mean over texts, bootstrap; the least is {least:.4f}"
    ranked = f"share of a text's {searched.neighbours} nearest passages that stay, bootstrap over queries"
    return [
        metric("cosine_agreement", cosine, n, how),
        metric("rank_agreement", rank_agreement(candidate, reference, searched, seed), asked, ranked),
    ]


def _recall(candidate: Embeddings, reference: Embeddings | None, searched: Searched) -> Metric:
    """The share of queries whose own passage is among the nearest."""
    mine, n = _answered(candidate, searched), len(searched.relevant)
    how = f"queries whose passage is among the {searched.neighbours} nearest of {searched.documents:,}, Wilson interval"
    measured = wilson(int(mine.sum()), n)
    if reference is None:
        return metric("recall", measured, n, how)
    theirs = _answered(reference, searched)
    change, base = mcnemar(theirs, mine), float(theirs.mean())
    return metric("recall", measured, n, how, change, change.scaled(1 / base) if base else None)


def _answered(embeddings: Embeddings, searched: Searched) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (nearest(embeddings, searched) == searched.relevant[:, None]).any(axis=1)
    return found


def _cosines(candidate: Embeddings, reference: Embeddings) -> Floats:
    cosines: Floats = np.sum(_unit(candidate) * _unit(reference), axis=1)
    return cosines


def _unit(embeddings: Embeddings) -> Floats:
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit


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
