"""A classifier that learns from a teacher over images: its loss a step, and how it does on held-out ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._augmentation import Augmentation
from stages._distillation import Direction, Weights, divergence, said
from stages._examples import Examples
from stages._feature_loss import FeatureLoss
from stages._looks import Score
from stages._torch_model import outputs
from stages.base import Refused

Rows = NDArray[np.int64]
_CALL = 256  # images


@dataclass(frozen=True)
class Sets:
    """Rows of the training examples: trained on, with labels that may be looked at among them, and held out.

    `judged_by_labels`: whether the held-out ones' labels may be looked at, too.
    """

    training: Rows
    labelled: Rows
    held_out: Rows
    judged_by_labels: bool

    @classmethod
    def drawn(cls, count: int, held_out: int, labelled: int | None, batch: int) -> Sets:
        """The held-out images evenly spaced, and the labelled ones, or all of them, evenly spaced among the rest.

        Raises:
            Refused: there are too few.
        """
        wanted = held_out + max(batch, labelled or 0)
        if count < wanted:
            raise Refused(
                f"{count:,} training images: {held_out:,} held out and what is asked for need {wanted:,}",
                "give more of them, or lower `held_out`, `batch` or `labelled`",
            )
        held = np.linspace(0, count - 1, held_out).round().astype(np.int64)
        rest = np.setdiff1d(np.arange(count), held)
        asked = len(rest) if labelled is None else labelled
        chosen = rest[((np.arange(asked) + 0.5) * len(rest) / asked).astype(np.int64)]
        return cls(rest, chosen, held, judged_by_labels=labelled is None)


@dataclass(frozen=True)
class ImageWork:
    """The teacher answers for every image as it is shown. `answers`, shape (n, classes): those to images unchanged."""

    student: Any
    teacher: Any
    examples: Examples
    sets: Sets
    answers: Any
    batch: int
    seed: int
    weights: Weights
    temperature: float
    direction: Direction
    augmentation: Augmentation
    features: FeatureLoss | None = None

    @property
    def metric(self) -> str:
        """By whose answers: the labels', or the teacher's."""
        return "wrong_answers" if self.sets.judged_by_labels else "disagreement"

    def backward(self, step: int) -> float:
        """Leave the step's gradients; its mean loss, in nats."""
        self.student.train()
        rng = np.random.default_rng((self.seed, step, 1))
        loss: Any = 0.0
        if self.weights.logits or self.features:
            loss = loss + self._from_teacher(self._rows(self.sets.training, step), rng)
        if self.weights.labels:
            loss = loss + self.weights.labels * self._from_labels(self._rows(self.sets.labelled, step), rng)
        loss.backward()
        return float(loss.detach())

    def score(self) -> Score:
        """Share of wrong answers on held-out images, by the labels or else by the teacher; divergence from it."""
        import torch

        self.student.eval()
        parts = np.array_split(self.sets.held_out, -(-len(self.sets.held_out) // _CALL))
        with torch.inference_mode():
            logits = torch.cat([first(self.student, given(self.examples, rows)) for rows in parts])
        teacher = self.answers[torch.from_numpy(self.sets.held_out)]
        labels = torch.from_numpy(self.examples.labels[self.sets.held_out])
        right = labels if self.sets.judged_by_labels else teacher.argmax(-1)
        loss = divergence(logits, said(teacher, teacher.shape[-1], 1.0), 1.0, "forward")
        return Score(metric=float((logits.argmax(-1) != right).float().mean()), loss=float(loss))

    def _rows(self, among: Rows, step: int) -> Rows:
        """Those of a step: each pass in an order of its own, drawn from seed and pass alone."""
        size = min(self.batch, len(among))
        passed, place = divmod(step, len(among) // size)
        chosen: Rows = np.random.default_rng((self.seed, passed)).permutation(among)[place * size : (place + 1) * size]
        return chosen

    def _from_teacher(self, rows: Rows, rng: np.random.Generator) -> Any:
        shown = self.augmentation.mixed(self.augmentation.moved(given(self.examples, rows), rng), rng)
        logits, loss = self.features(shown) if self.features else (first(self.student, shown), 0.0)
        if self.weights.logits:
            theirs = said(self._theirs(shown, rows), logits.shape[-1], self.temperature)
            loss = loss + self.weights.logits * divergence(logits, theirs, self.temperature, self.direction)
        return loss

    def _from_labels(self, rows: Rows, rng: np.random.Generator) -> Any:
        import torch

        logits = first(self.student, self.augmentation.moved(given(self.examples, rows), rng))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(self.examples.labels[rows]))

    def _theirs(self, shown: Any, rows: Rows) -> Any:
        """A changed image is another question; the answers to the others are known."""
        import torch

        if not self.augmentation.changes:
            return self.answers[torch.from_numpy(rows)]
        with torch.no_grad():
            return first(self.teacher, shown)


def answers_of(teacher: Any, examples: Examples) -> Any:
    """The teacher's scores for every image as it is, shape (n, classes)."""
    import torch

    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // _CALL))
    with torch.inference_mode():
        found = torch.cat([first(teacher, given(examples, rows)) for rows in parts])
    return found.clone()


def given(examples: Examples, rows: Rows) -> Any:
    """The images as the model takes them."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(examples.preprocess(examples.pixels[rows])))


def first(module: Any, images: Any) -> Any:
    """The module's first output."""
    return next(iter(outputs(module(images)).values()))


def refuse_other_classes(student: Any, answers: Any, sample: Any) -> None:
    """Raise Refused where the student's scores for two images are of another shape than its teacher's."""
    ours = tuple(first(student, sample).shape[1:])
    if ours != tuple(answers.shape[1:]):
        raise Refused(
            f"the student gives scores of shape {ours} an image, the teacher {tuple(answers.shape[1:])}",
            "the student needs the teacher's own classes",
        )
