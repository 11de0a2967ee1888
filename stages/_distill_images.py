"""A classifier that learns from a teacher over images: its loss a step, and how it does on held-out ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._augmentation import Augmentation
from stages._calls import HERE, Calls, accumulated
from stages._distillation import Direction, Weights, divergence, said
from stages._examples import Examples
from stages._feature_loss import FeatureLoss, Heard
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
    calls: Calls = HERE

    @property
    def metric(self) -> str:
        """By whose answers: the labels', or the teacher's."""
        return "wrong_answers" if self.sets.judged_by_labels else "disagreement"

    def backward(self, step: int) -> float:
        """Leave the step's gradients; its mean loss, in nats."""
        self.student.train()
        rng = np.random.default_rng((self.seed, step, 1))
        learnt = []
        if self.weights.logits or self.features:
            learnt.append(self._from_teacher(self._rows(self.sets.training, step), rng))
        if self.weights.labels:
            learnt.append(self._from_labels(self._rows(self.sets.labelled, step), rng))
        return accumulated(sum(losses) for losses in zip_longest(*learnt, fillvalue=0.0))

    def score(self) -> Score:
        """Share of wrong answers on held-out images, by the labels or else by the teacher; divergence from it."""
        import torch

        self.student.eval()
        parts = np.array_split(self.sets.held_out, -(-len(self.sets.held_out) // _CALL))
        with torch.inference_mode():
            found = [first(self.student, given(self.examples, rows), self.calls.exact) for rows in parts]
            logits = torch.cat(found).cpu()
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

    def _from_teacher(self, rows: Rows, rng: np.random.Generator) -> Iterator[Any]:
        """Of each call; their sum is the mean over the images."""
        shown = self.augmentation.mixed(self.augmentation.moved(given(self.examples, rows), rng), rng)
        images, parts = self.calls.parts(shown), self.calls.parts(rows)
        heard = self.features.heard(images, self.calls) if self.features else [None] * len(parts)
        for each, part, layers in zip(images, parts, heard, strict=True):
            yield self._taught(each, part, layers) * (len(part) / len(rows))

    def _taught(self, shown: Any, rows: Rows, heard: Heard | None) -> Any:
        if self.features and heard:
            logits, loss = self.features(shown, heard, self.calls)
        else:
            logits, loss = first(self.student, shown, self.calls), 0.0
        if self.weights.logits:
            theirs = said(self._theirs(shown, rows), logits.shape[-1], self.temperature)
            loss = loss + self.weights.logits * divergence(logits, theirs, self.temperature, self.direction)
        return loss

    def _from_labels(self, rows: Rows, rng: np.random.Generator) -> Iterator[Any]:
        """Of each call; their sum is the mean over the images."""
        import torch

        shown = self.augmentation.moved(given(self.examples, rows), rng)
        for each, part in zip(self.calls.parts(shown), self.calls.parts(rows), strict=True):
            labels = torch.from_numpy(self.examples.labels[part]).to(self.calls.device)
            loss = torch.nn.functional.cross_entropy(first(self.student, each, self.calls).float(), labels)
            yield self.weights.labels * loss * (len(part) / len(rows))

    def _theirs(self, shown: Any, rows: Rows) -> Any:
        """A changed image is another question; the answers to the others are known."""
        import torch

        if not self.augmentation.changes:
            return self.answers[torch.from_numpy(rows)].to(self.calls.device)
        with torch.no_grad():
            return first(self.teacher, shown, self.calls)


def answers_of(teacher: Any, examples: Examples, calls: Calls = HERE) -> Any:
    """The teacher's scores for every image as it is, in float32 on the CPU, shape (n, classes)."""
    import torch

    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // _CALL))
    with torch.inference_mode():
        found = torch.cat([first(teacher, given(examples, rows), calls.exact).cpu() for rows in parts])
    return found.clone()


def given(examples: Examples, rows: Rows) -> Any:
    """The images as the model takes them, on the CPU."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(examples.preprocess(examples.pixels[rows])))


def first(module: Any, images: Any, calls: Calls = HERE) -> Any:
    """The module's first output, on the device of `calls`."""
    return next(iter(outputs(calls.of(module, images)).values()))


def refuse_other_classes(student: Any, answers: Any, sample: Any) -> None:
    """Raise Refused where the student's scores for two images are of another shape than its teacher's."""
    ours = tuple(first(student, sample).shape[1:])
    if ours != tuple(answers.shape[1:]):
        raise Refused(
            f"the student gives scores of shape {ours} an image, the teacher {tuple(answers.shape[1:])}",
            "the student needs the teacher's own classes",
        )


def refuse_lone_images(student: Any, calls: Calls, sizes: Iterable[int]) -> None:
    """Raise Refused where a call of a step of so many images has one alone, and BatchNorm wants the spread of several.

    torch itself takes one image where it has several places: the spread is then that image's own.
    """
    import torch

    norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    if not any(isinstance(each, norms) for each in student.modules()):
        return
    for size in sizes:
        if any(len(part) == 1 for part in calls.parts(range(size))):
            raise Refused(
                f"`micro_batch: {calls.most}` shows one of {size} images alone: BatchNorm takes the spread of several",
                "choose it such that no call is left with one image",
            )
