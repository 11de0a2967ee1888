"""What a model says of token windows, kept small enough to compare models that are never open together.

A position keeps the log-probability of the true next token, the most likely token, and the log-probabilities of
the reference's `k` most likely tokens: 0.8 kB instead of the 200 kB of a whole row of logits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from targets.base import Logits, TextSession, Tokens

ROWS = 16
"""Rows of logits reduced at a time: 16 rows of 49,152 floats are 3 MB and stay in the cache."""


@dataclass(frozen=True)
class Scores:
    """Of w windows of n tokens, for each of the n - 1 predicted positions; natural logarithms.

    `logp` (w, n-1): of the true next token. `top1` (w, n-1): the most likely token. `top_ids` and `top_logp`
    (w, n-1, k): the reference's k most likely tokens and this model's log-probabilities of them.
    """

    logp: NDArray[np.float32]
    top1: NDArray[np.int32]
    top_ids: NDArray[np.int32]
    top_logp: NDArray[np.float32]

    @property
    def broken(self) -> int:
        """Tokens at which a log-probability is not finite; -inf for one of the reference's own is a ruled-out token."""
        return int((~np.isfinite(self.logp) | np.isnan(self.top_logp).any(axis=2)).sum())

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, logp=self.logp, top1=self.top1, top_ids=self.top_ids, top_logp=self.top_logp)

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what `save` wrote; nothing pickled is accepted."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(*(arrays[name] for name in ("logp", "top1", "top_ids", "top_logp")))

    @classmethod
    def join(cls, parts: list[Scores]) -> Scores:
        """The windows of several scorings, in order."""
        names = ("logp", "top1", "top_ids", "top_logp")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def score(
    session: TextSession,
    windows: Tokens,
    top_k: int,
    threads: int = 1,
    reference_ids: NDArray[np.int32] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Score windows of shape (w, n).

    Without `reference_ids` (w, n-1, k) the session is the reference and its own `top_k` most likely tokens are kept.
    `progress` is called with the number of windows done.
    """
    parts = []
    with ThreadPoolExecutor(threads) as pool:
        for number, window in enumerate(windows):
            logits = session.logits(window)[:-1]
            ids = None if reference_ids is None else reference_ids[number]
            parts.append(_reduce(pool, logits, window[1:], top_k, ids))
            progress(number + 1)
    return Scores(*(np.stack(column) for column in zip(*parts, strict=True)))


Row = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def _reduce(
    pool: ThreadPoolExecutor, logits: Logits, targets: Tokens, top_k: int, ids: NDArray[np.int32] | None
) -> Row:
    def part(start: int) -> Row:
        rows = slice(start, start + ROWS)
        return _reduce_rows(logits[rows], targets[rows], top_k, None if ids is None else ids[rows])

    parts = list(pool.map(part, range(0, len(logits), ROWS)))
    logp, top1, top_ids, top_logp = (np.concatenate(column) for column in zip(*parts, strict=True))
    return logp, top1, top_ids, top_logp


def _reduce_rows(logits: Logits, targets: Tokens, top_k: int, ids: NDArray[np.int32] | None) -> Row:
    top1 = logits.argmax(axis=1).astype(np.int32)
    normalizer = log_sum_exp(logits, np.take_along_axis(logits, top1[:, None], axis=1))
    if ids is None:
        ids = _top(logits, min(top_k, logits.shape[1]))
    logp = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0] - normalizer
    return logp, top1, ids, np.take_along_axis(logits, ids, axis=1) - normalizer[:, None]


def log_sum_exp(logits: Logits, highest: Logits) -> NDArray[np.float32]:
    """log(sum(exp(row))) of each row of (n, vocabulary); `highest` (n, 1) is each row's largest."""
    shifted = logits - highest
    np.exp(shifted, out=shifted)
    total: NDArray[np.float32] = np.log(shifted.sum(axis=1)) + highest[:, 0]
    return total


def _top(logits: Logits, k: int) -> NDArray[np.int32]:
    if k == logits.shape[1]:
        return np.argsort(-logits, axis=1).astype(np.int32)
    ids = np.argpartition(logits, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(logits, ids, axis=1), axis=1)
    return np.take_along_axis(ids, order, axis=1).astype(np.int32)
