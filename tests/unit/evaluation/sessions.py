"""A session with the logits of one's choice, and Scores of one's choice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.scores import Scores
from targets.base import Arrays, Generated, Logits, Tokens


class Table:
    """A bigram model: the logits after a token are a row of a table of shape (vocabulary, vocabulary)."""

    def __init__(self, table: NDArray[np.floating]) -> None:
        self.table = table.astype(np.float32)
        self._view = np.empty((0, self.vocabulary_size), dtype=np.float32)
        self.closed = False

    @property
    def vocabulary_size(self) -> int:
        return len(self.table)

    def encode(self, text: str) -> Tokens:
        """A character is a token."""
        return np.array([ord(letter) % self.vocabulary_size for letter in text], dtype=np.int32)

    def decode(self, tokens: Tokens) -> str:
        return "".join(chr(token) for token in tokens)

    def run(self, inputs: Arrays) -> Arrays:
        return {"logits": self.logits(inputs["input_ids"].astype(np.int32))}

    def logits(self, tokens: Tokens) -> Logits:
        """A view that the next call spoils, as a real runtime's."""
        self._view.fill(np.nan)
        self._view = self.table[tokens]
        return self._view

    def generate(self, prompt: Tokens, n: int) -> Generated:
        tokens = [int(prompt[-1])]
        for _ in range(n):
            tokens.append(int(self.table[tokens[-1]].argmax()))
        return Generated(tuple(tokens[1:]), tuple(0.01 * (position + 1) for position in range(n)))

    def close(self) -> None:
        self.closed = True


def random_table(vocabulary: int, seed: int, scale: float = 3.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, scale, (vocabulary, vocabulary))


def random_windows(count: int, length: int, vocabulary: int, seed: int = 0) -> Tokens:
    return np.random.default_rng(seed).integers(0, vocabulary, (count, length), dtype=np.int32)


def of_losses(losses: NDArray[np.floating]) -> Scores:
    """Scores whose losses of shape (windows, tokens) are these; the rest is nothing to speak of."""
    shape = losses.shape
    return Scores(
        logp=-losses.astype(np.float32),
        top1=np.zeros(shape, dtype=np.int32),
        top_ids=np.zeros((*shape, 1), dtype=np.int32),
        top_logp=np.zeros((*shape, 1), dtype=np.float32),
    )
