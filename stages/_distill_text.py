"""A language model that learns from a teacher over windows of text: its loss a step, and its held-out perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any, ClassVar

from stages._calls import Precision, casting, in_parts
from stages._distillation import Direction, Said, Weights, divergence
from stages._hidden import HiddenLoss
from stages._looks import Score
from stages._teacher_text import TeacherText
from stages._team import ALONE, Team

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Batches:
    """Windows of tokens, shape (n, length), which of them are held out, and how many make a step and a call."""

    windows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    batch: int
    micro_batch: int
    seed: int

    def rows(self, step: int) -> NDArray[np.int64]:
        """The windows of a step: each pass over the text in an order of its own, drawn from seed and pass alone."""
        import numpy as np

        others = np.setdiff1d(np.arange(len(self.windows)), self.held_out)
        passed, place = divmod(step, len(others) // self.batch)
        order = np.random.default_rng((self.seed, passed)).permutation(others)
        chosen: NDArray[np.int64] = order[place * self.batch : (place + 1) * self.batch]
        return chosen

    def parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The rows of each call."""
        return in_parts(rows, self.micro_batch)


@dataclass(frozen=True)
class TextWork:
    """`hidden` compares with the teacher as it runs; everything else with what it said."""

    student: Any
    said: TeacherText
    batches: Batches
    weights: Weights
    temperature: float
    direction: Direction
    precision: Precision
    hidden: HiddenLoss | None = None
    team: Team = ALONE
    metric: ClassVar[str] = "perplexity"

    def backward(self, step: int) -> float:
        """Leave the gradients of this process's part of the step; its part of the mean loss, in nats a token."""
        self.student.train()
        rows = self.batches.rows(step)
        own = self.team.share(self.batches.parts(rows))
        return sum(self._part(part, len(part) / len(rows)) for part in own)

    def score(self) -> Score:
        """Perplexity, and mean loss a token, of the held-out windows."""
        import torch

        self.student.eval()
        total = 0.0
        with torch.inference_mode(), self._casting():
            for rows in self.team.share(self.batches.parts(self.batches.held_out)):
                given = self._given(rows)
                total += float(_likelihood(self.student(given, use_cache=False).logits, given)) * len(rows)
        loss = self.team.total(total) / len(self.batches.held_out)
        return Score(metric=exp(min(loss, 100)), loss=loss)

    def _part(self, rows: NDArray[np.int64], share: float) -> float:
        given = self._given(rows)
        with self._casting():
            logits, further = self._run(given)
            loss = self._loss(logits, given, rows) + further
        (loss * share).backward()
        return float(loss.detach()) * share

    def _run(self, given: Any) -> tuple[Any, Any]:
        if self.hidden is None:
            return self.student(given, use_cache=False).logits, 0.0
        return self.hidden(given)

    def _loss(self, logits: Any, given: Any, rows: NDArray[np.int64]) -> Any:
        loss: Any = 0.0
        if self.weights.logits:
            said = self.said.of(rows)
            flat = Said(*(each.flatten(0, 1).to(self.team.device) for each in (said.ids, said.logp)))
            answers = logits[:, :-1].flatten(0, 1)
            loss = loss + self.weights.logits * divergence(answers, flat, self.temperature, self.direction)
        if self.weights.labels:
            loss = loss + self.weights.labels * _likelihood(logits, given)
        return loss

    def _given(self, rows: NDArray[np.int64]) -> Any:
        import torch

        return torch.from_numpy(self.batches.windows[rows]).to(self.team.device)

    def _casting(self) -> Any:
        return casting(self.team.device, self.precision)


def _likelihood(logits: Any, given: Any) -> Any:
    """Mean negative log-likelihood of each window's tokens after its first, in nats."""
    import torch

    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), given[:, 1:].flatten())
