"""A text encoder that learns from a teacher: its loss a step, and how near its embeddings are on held-out texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages._looks import Score
from stages._tokens import TEXT, Tokens

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class EmbeddingWork:
    """`pairs` are (student's layer, teacher's layer), 0 the embeddings of tokens; weights of the two parts of the loss.

    `embedding` counts 1 - cosine of the texts' embeddings, `hidden` the mean squared error of the hidden states at
    tokens over the teacher's mean square (Jiao et al. 2020, TinyBERT), so that a weight says the same for any model.
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
    metric: ClassVar[str] = "cosine_distance"

    def backward(self, step: int) -> float:
        """Leave the step's gradients; its loss."""
        self.student.train()
        loss = self._loss(self.rows(step))
        loss.backward()
        return float(loss.detach())

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
                ours, theirs = (each(ids, mask)["sentence_embedding"] for each in (self.student, self.teacher))
                total += float((1 - torch.nn.functional.cosine_similarity(ours, theirs)).sum())
        mean = total / len(self.held_out)
        return Score(metric=mean, loss=mean)

    def _loss(self, rows: Rows) -> Any:
        import torch

        ids, mask = self._given(rows)
        with torch.no_grad():
            theirs = self._states(self.teacher, ids, mask)
        ours = self._states(self.student, ids, mask)
        embeddings = (
            each.embedded(states[-1], mask) for each, states in ((self.student, ours), (self.teacher, theirs))
        )
        far = (1 - torch.nn.functional.cosine_similarity(*embeddings)).mean()
        return self.embedding * far + (self.hidden * self._hidden(ours, theirs, mask) if self.hidden else 0.0)

    def _hidden(self, ours: Any, theirs: Any, mask: Any) -> Any:
        at_tokens = mask.bool()
        parts = []
        for mine, its in self.pairs:
            wanted = theirs[its][at_tokens]
            parts.append(((ours[mine][at_tokens] - wanted) ** 2).mean() / (wanted**2).mean())
        return sum(parts) / len(parts)

    def _states(self, module: Any, ids: Any, mask: Any) -> Any:
        return module.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states

    def _given(self, rows: Rows) -> tuple[Any, Any]:
        import torch

        fed = self.texts.feed(rows, TEXT)
        ids, mask = (torch.from_numpy(fed[name]) for name in TEXT)
        return ids, mask
