"""torch -> torch: fine-tuned with INT8's rounding in the way, for where quantizing after training misses the budget."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, JsonValue, model_validator

from stages._augmentation import Augmentation
from stages._calibration import TRAINING, required
from stages._curve import curve_of
from stages._distill_images import ImageWork, Sets, answers_of, given, refuse_other_classes
from stages._distillation import TEACHER, Weights
from stages._examples import Examples
from stages._fitting import Plan, fit
from stages._looks import Fit
from stages._torch_model import load, save
from stages.base import Artifact, Context, Produced, Stage

_CALIBRATED_ON = 512  # images, in calls of 64


class QuantizeAware(Stage):
    """Make a classifier's weights, still floats, such that `quantize_onnx: {mode: static}` loses less by rounding."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch"})
    produces: ClassVar[str] = "torch"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({TEACHER, TRAINING})
    heals: ClassVar[bool] = True
    device_bound: ClassVar[bool] = True  # sums in another order, and hundreds of steps later other weights

    steps: int = Field(500, ge=1, description="of the optimizer")
    batch: int = Field(64, ge=2, description="images a step")
    logits: float = Field(1.0, ge=0, description="weight of the divergence from the answers of the unrounded teacher")
    labels: float = Field(0.0, ge=0, description="weight of the cross-entropy against labels")
    temperature: float = Field(2.0, gt=0, description="both modules' scores are divided by it")
    augmentation: Augmentation = Field(Augmentation(), description="how images are changed before they are shown")
    exclude: tuple[str, ...] = Field((), description="layers, by name or pattern, that will stay float")
    reduce_range: bool = Field(False, description="weights in 7 bits, where `quantize_onnx` is told the same")
    symmetric_activations: bool = Field(False, description="int8 around 0, where `quantize_onnx` is told the same")
    learning_rate: float = Field(5e-4, gt=0, description="the highest; it falls to 0 along a cosine")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which it rises")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    clip: float = Field(5.0, gt=0, description="most of the gradient's norm")
    held_out: int = Field(100, ge=1, description="training images that nothing is trained on; the best step is kept")
    validate_every: int = Field(50, ge=1, description="steps between looks at them")
    patience: int = Field(0, ge=0, description="looks without a better one until it stops; 0: never")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints that a killed run goes on from")

    @model_validator(mode="after")
    def _learns(self) -> QuantizeAware:
        if not (self.logits or self.labels):
            raise ValueError("every weight is 0: set `logits` or `labels`")
        return self

    def needs(self) -> frozenset[str]:
        """Images to train on. Where there is no teacher yet, the module as it came is it."""
        return frozenset({TRAINING})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the module with the weights that did best, rounded, on the held-out images.

        Raises:
            Refused: too few images, other classes than the teacher's, nothing to quantize, a module that cannot be
                built, or a loss that went out of bounds.
        """
        import torch

        from stages._fake_quantize import FakeQuantized

        torch.set_num_threads(context.threads)
        torch.manual_seed(context.seed)
        examples = required(context, "quantize_aware", TRAINING)
        sets = Sets.drawn(len(examples), self.held_out, None, self.batch)
        teacher, student = load(context.inputs.get(TEACHER, model).path), load(model.path)
        answers = answers_of(teacher, examples)
        refuse_other_classes(student, answers, given(examples, np.arange(2)))
        levels = 64 if self.reduce_range else 127
        rounded = FakeQuantized(student, _spread(examples), self.exclude, levels, self.symmetric_activations)
        work = self._work(rounded, teacher, examples, sets, answers, context.seed)
        plan = Plan(**self.model_dump(include=set(Plan.model_fields)))
        fitted = fit(rounded, work, plan, context.resume, context.seed, context.progress, curve_of(context))
        save(rounded.restored(), model.path, context.out)
        return _produced(model, fitted, len(sets.training), len(rounded.layers))

    def _work(self, student: Any, teacher: Any, examples: Examples, sets: Sets, answers: Any, seed: int) -> ImageWork:
        weights = Weights(logits=self.logits, labels=self.labels, hidden=0, attention=0)
        own = {key: getattr(self, key) for key in ("batch", "temperature", "augmentation")}
        return ImageWork(
            student, teacher, examples, sets, answers, seed=seed, weights=weights, direction="forward", **own
        )


def _spread(examples: Examples) -> list[Any]:
    """Images to take the first ranges from."""
    count = min(_CALIBRATED_ON, len(examples))
    rows = np.linspace(0, len(examples) - 1, count).round().astype(np.int64)
    return [given(examples, part) for part in np.array_split(rows, -(-count // 64))]


def _produced(model: Artifact, fitted: Fit, images: int, layers: int) -> Produced:
    first, best = fitted.curve[0].score, next(each.score for each in fitted.curve if each.step == fitted.best)
    told: dict[str, JsonValue] = {
        "images": images,
        "layers": layers,
        "steps": fitted.curve[-1].step,
        "kept_step": fitted.best,
        "held_out_wrong_before": round(first.metric, 4),
        "held_out_wrong": round(best.metric, 4),
    }
    facts = {**model.facts, "precision": "float32", "quantize_aware": told}
    return Produced(facts=facts, notes=fitted.notes(), tables=(fitted.table("wrong answers, rounded"),))
