"""Multiple choice by log-likelihood: the choice that the model finds most likely after the question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.bootstrap import mcnemar, wilson
from pipelines.evaluation.scores import log_sum_exp
from pipelines.measures import Metric, metric
from targets.base import TextSession, Tokens


@dataclass(frozen=True)
class Choices:
    """Every choice of every question as one sequence: question, then choice.

    `tokens` (t,) are all sequences end to end, sequence i is tokens[ends[i-1]:ends[i]] and its choice begins at its
    position `starts[i]`; `question[i]` says which question it belongs to, `answer[i]` whether it is the right one.
    """

    tokens: Tokens
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    question: NDArray[np.int64]
    answer: NDArray[np.bool_]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(np.r_[0, self.ends]).max())

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Choices:
        """Read what `save` wrote; nothing pickled is accepted."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def log_likelihoods(
    session: TextSession, choices: Choices, progress: Callable[[int], None] = lambda _: None
) -> NDArray[np.float64]:
    """Log-likelihood of each sequence's choice given its question, shape (sequences,)."""
    found = []
    for number, (begin, end) in enumerate(zip(np.r_[0, choices.ends[:-1]], choices.ends, strict=True)):
        sequence, start = choices.tokens[begin:end], choices.starts[number]
        rows = session.logits(sequence)[start - 1 : -1]
        chosen = np.take_along_axis(rows, sequence[start:, None].astype(np.int64), axis=1)[:, 0]
        found.append(float(np.sum(chosen - log_sum_exp(rows, rows.max(axis=1, keepdims=True)))))
        progress(number + 1)
    return np.array(found)


def correct(choices: Choices, likelihoods: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each question's most likely choice, a token on average, is its answer; shape (questions,).

    A plain sum would prefer short choices: on social_iqa it left the reference at 35% where chance is 33%, the mean
    a token reached 48%.
    """
    lengths = np.diff(np.r_[0, choices.ends]) - choices.starts
    rated = likelihoods / lengths
    rows = [np.flatnonzero(choices.question == question) for question in np.unique(choices.question)]
    return np.array([choices.answer[mine[np.argmax(rated[mine])]] for mine in rows], dtype=np.bool_)


def accuracy(task: str, candidate: NDArray[np.bool_], reference: NDArray[np.bool_] | None) -> Metric:
    """Share of right answers; its change against the reference on the same questions."""
    n, name = len(candidate), f"accuracy_{task}"
    measured = wilson(int(candidate.sum()), n)
    if reference is None:
        return metric(name, measured, n, "log-likelihood of each choice, Wilson interval")
    base, change = float(reference.mean()), mcnemar(reference, candidate)
    relative = change.scaled(1 / base) if base else None
    return metric(name, measured, n, "log-likelihood of each choice, change by McNemar's pairs", change, relative)
