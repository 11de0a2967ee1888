"""torch -> torch: a smaller module, or a pruned one, learns from the reference or another teacher."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, JsonValue, model_validator

from stages._augmentation import Augmentation
from stages._calibration import TRAINING, required
from stages._calls import Calls, Device, Precision, device_of
from stages._cuda import unavailable_device
from stages._curve import curve_of
from stages._distill_images import (
    ImageWork,
    Sets,
    answers_of,
    first,
    given,
    refuse_lone_images,
    refuse_other_classes,
)
from stages._distillation import TEACHER, Direction, Weights
from stages._examples import Examples
from stages._feature_loss import FeatureLoss
from stages._feature_shapes import refuse_unlike
from stages._fitting import Plan, fit
from stages._looks import Fit
from stages._student_notes import notes_of
from stages._torch_model import load, save
from stages.base import Artifact, Context, Produced, Stage


class Distill(Stage):
    """Teach a classifier with another one's answers; without `student` the module as it came, pruned say."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch"})
    produces: ClassVar[str] = "torch"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({TEACHER, TRAINING})
    heals: ClassVar[bool] = True
    device_bound: ClassVar[bool] = True  # sums in another order, and hundreds of steps later other weights

    student: str | None = Field(
        None, pattern=r"^[\w./-]+:\w+$", description="`model.py:build_small`, in the model's own folder, or a package's"
    )
    steps: int = Field(1000, ge=1, description="of the optimizer")
    batch: int = Field(64, ge=2, description="images a step")
    logits: float = Field(1.0, ge=0, description="weight of the divergence between the two modules' answers")
    labels: float = Field(0.0, ge=0, description="weight of the cross-entropy against labels")
    labelled: int | None = Field(None, ge=2, description="training images whose labels are looked at; null: all")
    hidden: float = Field(0.0, ge=0, description="weight of the error of `layers`' outputs, projected where needed")
    attention: float = Field(0.0, ge=0, description="weight of the error of `layers`' attention maps")
    layers: dict[str, str] = Field({}, description="the student's layers, by name, and the teacher's they are held to")
    temperature: float = Field(2.0, gt=0, description="both modules' scores are divided by it")
    divergence: Direction = Field("forward", description="`forward` is KL(teacher || student)")
    augmentation: Augmentation = Field(Augmentation(), description="how images are changed before they are shown")
    learning_rate: float = Field(2e-3, gt=0, description="the highest; it falls to 0 along a cosine")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which it rises")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    clip: float = Field(5.0, gt=0, description="most of the gradient's norm")
    held_out: int = Field(100, ge=1, description="training images that nothing is trained on; the best step is kept")
    validate_every: int = Field(50, ge=1, description="steps between looks at them")
    patience: int = Field(0, ge=0, description="looks without a better one until it stops; 0: never")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints that a killed run goes on from")
    micro_batch: int | None = Field(
        None, ge=1, description="images a call; gradients add up to the step's, BatchNorm sees each call's; null: all"
    )
    precision: Precision = Field("float32", description="of a step's forward pass; weights and looks stay float32")
    device: Device = Field("auto", description="`auto`: CUDA where there is a GPU")

    @model_validator(mode="after")
    def _learns(self) -> Distill:
        if not any((self.logits, self.labels, self.hidden, self.attention)):
            raise ValueError("every weight is 0: set `logits`, `labels`, `hidden` or `attention`")
        if bool(self.layers) != bool(self.hidden or self.attention):
            raise ValueError("`layers` goes with `hidden` or `attention`: name both, or neither")
        return self

    def unavailable(self) -> str | None:
        """Whether a GPU was asked for where none is."""
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """Images to train on, and the teacher."""
        return frozenset({TEACHER, TRAINING})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the student with the weights that did best on the held-out images.

        Raises:
            Refused: too few images, other classes than the teacher's, an unknown layer, or one that cannot be held
                against the teacher's, a module that cannot be built, BatchNorm in a call of one image, no GPU where one
                was asked for, a training that torch cannot repeat, or a loss that went out of bounds.
        """
        import torch

        torch.set_num_threads(context.threads)
        torch.manual_seed(context.seed)
        examples = required(context, "distill", TRAINING)
        sets = Sets.drawn(len(examples), self.held_out, self.labelled, self.batch)
        calls = Calls(device_of(self.device), self.precision, self.micro_batch)
        teacher, student = load(context.inputs[TEACHER].path), load(model.path, self.student)
        sample = given(examples, np.arange(2))
        refuse_other_classes(student, first(teacher, sample), sample)
        refuse_lone_images(student, calls, (self.batch, min(self.batch, len(sets.labelled))))
        features = self._features(student, teacher, sample)
        learning = torch.nn.ModuleList([student, *([features.projections] if features else [])]).to(calls.device)
        work = self._work(student, teacher.to(calls.device), examples, sets, features, calls, context.seed)
        plan = Plan(**self.model_dump(include=set(Plan.model_fields)))
        fitted = fit(learning, work, plan, context.resume, context.seed, context.progress, curve_of(context))
        save(student.eval().cpu(), model.path, context.out, entry=self.student)
        return self._produced(model, (student, teacher), sets, fitted)

    def _work(
        self, student: Any, teacher: Any, examples: Examples, sets: Sets, features: Any, calls: Calls, seed: int
    ) -> ImageWork:
        own = {key: getattr(self, key) for key in ("batch", "temperature", "augmentation")}
        weights = Weights(**self.model_dump(include=set(Weights.model_fields)))
        return ImageWork(
            student, teacher, examples, sets, answers_of(teacher, examples, calls), seed=seed, weights=weights,
            direction=self.divergence, features=features, calls=calls, **own,
        )  # fmt: skip

    def _features(self, student: Any, teacher: Any, sample: Any) -> FeatureLoss | None:
        if not self.layers:
            return None
        refuse_unlike(student, teacher, self.layers, sample, attention=self.attention > 0)
        return FeatureLoss.between(student, teacher, self.layers, sample, (self.hidden, self.attention))

    def _produced(self, model: Artifact, both: tuple[Any, Any], sets: Sets, fitted: Fit) -> Produced:
        ours, theirs = (sum(weights.numel() for weights in module.parameters()) for module in both)
        told: dict[str, JsonValue] = {
            "images": len(sets.training),
            "labels": len(sets.labelled) if self.labels else 0,
            "steps": fitted.curve[-1].step,
            "kept_step": fitted.best,
            "parameters_of_teacher": theirs,
        }
        metric = "wrong answers" if sets.judged_by_labels else "other answers than the teacher's"
        facts = {**model.facts, "parameters": ours, "precision": "float32", "distillation": told}
        return Produced(facts=facts, notes=notes_of(fitted, ours, theirs), tables=(fitted.table(metric),))
