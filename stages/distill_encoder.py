"""Hugging Face text encoder -> one of fewer layers that embeds as its teacher does."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, JsonValue, model_validator

from stages._calibration import TRAINING
from stages._calls import Calls, Device, Precision, device_of
from stages._cuda import unavailable_device
from stages._curve import curve_of
from stages._distill_embeddings import EmbeddingWork
from stages._distillation import TEACHER
from stages._fitting import Plan, fit
from stages._hf_model import is_encoder, save
from stages._hidden import paired
from stages._kept_layers import Places, keep_only, refuse_not_there, refuse_other_layers
from stages._looks import Fit
from stages._read_back import sample
from stages._student_notes import notes_of
from stages._tokens import NAME, Tokens
from stages._torch_model import load
from stages.base import Artifact, Context, Produced, Refused, Stage


class DistillEncoder(Stage):
    """Drop an encoder's layers, evenly, and have the rest learn the teacher's embeddings and hidden states."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({TEACHER, TRAINING})
    heals: ClassVar[bool] = True
    device_bound: ClassVar[bool] = True  # sums in another order, and hundreds of steps later other weights

    keep: int | None = Field(None, ge=1, description="layers of the student, evenly spaced; null: as it comes")
    layers: Places | None = Field(
        None, description="layers of the student, by their numbers from 0 on, in place of `keep`"
    )
    steps: int = Field(300, ge=1, description="of training")
    batch: int = Field(16, ge=2, description="texts a step")
    embedding: float = Field(1.0, ge=0, description="weight of 1 - cosine between the two models' embeddings")
    hidden: float = Field(1.0, ge=0, description="weight of the hidden states' error, layer by layer")
    learning_rate: float = Field(1e-4, gt=0, description="the highest; it falls to 0 along a cosine")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which it rises")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="most of the gradient's norm")
    held_out: int = Field(64, ge=1, description="training texts that nothing is trained on; the best step is kept")
    validate_every: int = Field(25, ge=1, description="steps between looks at them")
    patience: int = Field(0, ge=0, description="looks without a better one until it stops; 0: never")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints that a killed run goes on from")
    micro_batch: int | None = Field(None, ge=1, description="texts a call; gradients add up to the step's; null: all")
    precision: Precision = Field("float32", description="of a step's forward pass; weights and looks stay float32")
    device: Device = Field("auto", description="`auto`: CUDA where there is a GPU")

    @model_validator(mode="after")
    def _learns(self) -> DistillEncoder:
        if not self.embedding and not self.hidden:
            raise ValueError("every weight is 0: set `embedding` or `hidden`")
        if self.layers is not None and self.keep is not None:
            raise ValueError("`layers` says which layers are left: leave `keep` out")
        return self

    def unavailable(self) -> str | None:
        """Whether a GPU was asked for where none is."""
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """Texts to train on, and the teacher."""
        return frozenset({TEACHER, TRAINING})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder with the weights that did best on the held-out texts, in float32.

        Raises:
            Refused: no encoder, nothing to drop, a layer that is not there, another width than the teacher's, too few
                texts, no GPU where one was asked for, a training that torch cannot repeat, a loss that went out of
                bounds, or a student that is another when it is read again.
        """
        import torch

        torch.set_num_threads(context.threads)
        torch.manual_seed(context.seed)
        texts = _texts(context)
        held, training = self._sets(len(texts))
        calls = Calls(device_of(self.device), self.precision, self.micro_batch)
        student, teacher = _encoder(model), _encoder(context.inputs[TEACHER])
        kept = self._dropped(student)
        _refuse_other_width(student, teacher)
        counts = student.model.config.num_hidden_layers, teacher.model.config.num_hidden_layers
        own = {key: getattr(self, key) for key in ("embedding", "hidden", "batch")}
        pairs = paired(*counts, kept)
        both = student.to(calls.device), teacher.to(calls.device)
        work = EmbeddingWork(*both, texts, training, held, pairs, seed=context.seed, calls=calls, **own)
        plan = Plan(**self.model_dump(include=set(Plan.model_fields)))
        fitted = fit(student, work, plan, context.resume, context.seed, context.progress, curve_of(context))
        save(student.eval().cpu(), model.path, context.out)
        if kept:
            refuse_other_layers(_said(student), lambda out: _said(load(out)), context.out, kept)
        return self._produced(model, both, fitted, len(training))

    def _sets(self, count: int) -> tuple[Any, Any]:
        needed = self.held_out + self.batch
        if count < needed:
            raise Refused(
                f"{count:,} training texts: {self.held_out:,} held out and {self.batch} a step need {needed:,}",
                "give more of them, or lower `held_out` or `batch`",
            )
        held = np.unique(np.linspace(0, count - 1, self.held_out).round().astype(np.int64))
        return held, np.setdiff1d(np.arange(count), held)

    def _dropped(self, student: Any) -> list[int] | None:
        """Which layers are left, if any goes."""
        layers = student.model.config.num_hidden_layers
        if self.layers is not None:
            refuse_not_there(self.layers, layers)
            kept = list(self.layers)
        elif self.keep is not None:
            kept = self._spaced(layers, self.keep)
        else:
            return None
        keep_only(student.model, kept)
        return kept

    def _spaced(self, layers: int, keep: int) -> list[int]:
        if keep >= layers:
            raise Refused(f"the encoder has {layers} layers: nothing to drop with `keep: {keep}`", "keep fewer")
        return [int(place) for place in np.linspace(0, layers - 1, keep).round()]

    def _produced(self, model: Artifact, both: tuple[Any, Any], fitted: Fit, texts: int) -> Produced:
        ours, theirs = (sum(weights.numel() for weights in module.parameters()) for module in both)
        best = next(point.score for point in fitted.curve if point.step == fitted.best)
        told: dict[str, JsonValue] = {
            "texts": texts,
            "steps": fitted.curve[-1].step,
            "kept_step": fitted.best,
            "held_out_cosine_before": round(1 - fitted.curve[0].score.metric, 5),
            "held_out_cosine": round(1 - best.metric, 5),
            "parameters_of_teacher": theirs,
        }
        layers = both[0].model.config.num_hidden_layers
        facts: dict[str, JsonValue] = {
            **model.facts, "layers": layers, "parameters": ours, "precision": "float32", "distillation": told,
        }  # fmt: skip
        return Produced(facts=facts, notes=notes_of(fitted, ours, theirs), tables=(fitted.table("1 - cosine"),))


def _texts(context: Context) -> Tokens:
    given = context.inputs[TRAINING]
    if not (given.path / NAME).is_file():
        raise Refused(
            f"`distill_encoder` trains on texts, and the training data are {given.kind}",
            "name a text, in a config with `evaluation: embeddings:`",
        )
    return Tokens.load(given.path)


def _encoder(artifact: Artifact) -> Any:
    if not is_encoder(artifact.path):
        raise Refused("the folder holds a classifier of images, no text encoder", "use `distill` for those")
    return load(artifact.path)


def _said(module: Any) -> Any:
    """The embedding of a few tokens."""
    import torch

    ids = sample(module.model)
    with torch.inference_mode():
        return module(ids, torch.ones_like(ids))["sentence_embedding"]


def _refuse_other_width(student: Any, teacher: Any) -> None:
    ours, theirs = (each.model.config.hidden_size for each in (student, teacher))
    if ours != theirs:
        raise Refused(
            f"the student's embeddings have {ours} numbers, the teacher's {theirs}: no angle lies between them",
            "take a teacher of the student's width",
        )
