"""A text encoder that learns from a teacher: its loss a step, and how near its embeddings are on held-out texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages._calls import HERE, Calls, accumulated
from stages._looks import Score
from stages._tokens import TEXT, Tokens

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class _Heard:
    """What a call is about, and what the teacher says: embeddings, and a pair's states (tokens, width) each."""

    ids: Any
    mask: Any
    tokens: int
    embeddings: Any
    states: Sequence[Any]


@dataclass(frozen=True)
class EmbeddingWork:
    """`pairs` are (student's layer, teacher's layer), 0 the embeddings of tokens; weights of the two parts of the loss.

    `embedding` counts 1 - cosine of the texts' embeddings, `hidden` the mean squared error of the hidden states at
    tokens over the teacher's mean square in the step (Jiao et al. 2020, TinyBERT), so that a weight says the same for
    any model.
    """

    student: Any
    teacher: Any
    texts: Tokens
    training: Rows
    held_out: Rows
    pairs: tuple[tuple[int, int], ...]
    embedding: float
    hidden: float
    batch: int
    seed: int
    calls: Calls = HERE
    metric: ClassVar[str] = "cosine_distance"

    def backward(self, step: int) -> float:
        """Leave the step's gradients; its loss."""
        self.student.train()
        return accumulated(self._losses(self.rows(step)))

    def rows(self, step: int) -> Rows:
        """The texts of a step: each pass over them in an order of its own, drawn from seed and pass alone."""
        passed, place = divmod(step, len(self.training) // self.batch)
        order = np.random.default_rng((self.seed, passed)).permutation(self.training)
        chosen: Rows = order[place * self.batch : (place + 1) * self.batch]
        return chosen

    def score(self) -> Score:
        """Mean 1 - cosine of the held-out texts' embeddings."""
        import torch

        self.student.eval()
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(self.held_out), self.batch):
                ids, mask = self._given(self.held_out[start : start + self.batch])
                said = (self.calls.exact.of(each, ids, mask) for each in (self.student, self.teacher))
                ours, theirs = (each["sentence_embedding"] for each in said)
                total += float((1 - torch.nn.functional.cosine_similarity(ours, theirs)).sum())
        mean = total / len(self.held_out)
        return Score(metric=mean, loss=mean)

    def _losses(self, rows: Rows) -> Iterator[Any]:
        """Of each call; their sum is that of the step: a mean over its texts, and one over its tokens."""
        heard = [self._heard(part) for part in self.calls.parts(rows)]
        tokens = sum(each.tokens for each in heard)
        shares = [(len(each.ids) / len(rows), each.tokens / tokens) for each in heard]
        squares = [
            sum((each.states[place] ** 2).mean() * share for each, (_, share) in zip(heard, shares, strict=True))
            for place in range(len(self.pairs) if self.hidden else 0)
        ]
        for each, (of_texts, of_tokens) in zip(heard, shares, strict=True):
            yield self._loss(each, of_texts, of_tokens, squares)

    def _heard(self, rows: Rows) -> _Heard:
        import torch

        ids, mask = self._given(rows)
        with torch.no_grad():
            states = self._states(self.teacher, ids, mask)
            embeddings = self.teacher.embedded(states[-1].float(), mask)
        compared = [states[its] for _, its in self.pairs] if self.hidden else []
        return _Heard(ids, mask, int(mask.sum()), embeddings, [each[mask.bool()].float() for each in compared])

    def _loss(self, heard: _Heard, of_texts: float, of_tokens: float, squares: Sequence[Any]) -> Any:
        import torch

        ours = self._states(self.student, heard.ids, heard.mask)
        embeddings = self.student.embedded(ours[-1].float(), heard.mask)
        far = (1 - torch.nn.functional.cosine_similarity(embeddings, heard.embeddings)).mean() * of_texts
        if not self.hidden:
            return self.embedding * far
        return self.embedding * far + self.hidden * self._hidden(ours, heard, squares) * of_tokens

    def _hidden(self, ours: Any, heard: _Heard, squares: Sequence[Any]) -> Any:
        at_tokens = heard.mask.bool()
        parts = [
            ((ours[mine][at_tokens].float() - wanted) ** 2).mean() / square
            for (mine, _), wanted, square in zip(self.pairs, heard.states, squares, strict=True)
        ]
        return sum(parts) / len(parts)

    def _states(self, module: Any, ids: Any, mask: Any) -> Any:
        with self.calls.casting():
            return module.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states

    def _given(self, rows: Rows) -> tuple[Any, Any]:
        import torch

        fed = self.texts.feed(rows, TEXT)
        ids, mask = (torch.from_numpy(fed[name]).to(self.calls.device) for name in TEXT)
        return ids, mask
