"""Hugging Face language model -> the same weights after learning from a teacher over training text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from stages._calibration import TRAINING
from stages._calibration_text import KIND, SEPARATOR, CalibrationText
from stages._calls import Device, Precision
from stages._causal_lm import load_lm, load_tokenizer, save_lm
from stages._cuda import unavailable_device
from stages._curve import curve_of
from stages._distill_text import Batches, TextWork
from stages._distillation import TEACHER, Direction, Weights
from stages._fitting import Plan, fit
from stages._hidden import HiddenLoss, between, paired
from stages._looks import Fit
from stages._lora import Adapters, Lora
from stages._same_tokens import refuse_other_tokens
from stages._student_notes import notes_of, parameters_of
from stages._teacher_text import TeacherText
from stages._team import Team
from stages._team_start import together
from stages.base import Artifact, Context, Produced, Refused, Stage


class DistillLlm(Stage):
    """Heal a language model whose layers were dropped, or teach a small one: next-token divergence, hidden states."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({TEACHER, TRAINING})
    heals: ClassVar[bool] = True
    device_bound: ClassVar[bool] = True  # sums in another order, and hundreds of steps later other weights

    tokens: int = Field(200_000, ge=1, description="trained on; a shorter text is passed again")
    window: int = Field(256, ge=8, description="tokens a window")
    batch: int = Field(8, ge=1, description="windows a step")
    micro_batch: int = Field(2, ge=1, description="windows a call; their gradients are added up to a step's")
    logits: float = Field(1.0, ge=0, description="weight of the divergence between the two models' next tokens")
    labels: float = Field(0.0, ge=0, description="weight of the text's own next tokens")
    hidden: float = Field(0.0, ge=0, description="weight of the hidden states' error; the teacher then runs every step")
    attention: float = Field(0.0, ge=0, description="weight of the attention's error; the teacher then runs every step")
    temperature: float = Field(1.0, gt=0, description="both models' logits are divided by it")
    divergence: Direction = Field("forward", description="`forward` is KL(teacher || student)")
    top_k: int = Field(64, ge=1, description="the teacher's most likely tokens kept a position; it runs once for them")
    learning_rate: float = Field(3e-4, gt=0, description="the highest; it falls to 0 along a cosine")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which it rises")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="most of the gradient's norm")
    precision: Precision = Field("float32", description="of the forward pass; weights and their updates stay float32")
    frozen: tuple[Literal["embeddings"], ...] = Field((), description="what is not trained")
    lora: Lora | None = Field(None, description="adapters are trained in place of the weights, and merged into them")
    held_out: int = Field(16, ge=1, description="windows of the training text that nothing is trained on")
    validate_every: int = Field(20, ge=1, description="steps between looks at their perplexity; the best is kept")
    patience: int = Field(0, ge=0, description="looks without a better one until it stops; 0: never")
    checkpoint_every: int = Field(20, ge=1, description="steps between checkpoints that a killed run goes on from")
    device: Device = Field("auto", description="`auto`: CUDA where there is a GPU")
    devices: int = Field(1, ge=1, description="GPUs, or processes on the CPU, that share each step's calls")

    @model_validator(mode="after")
    def _learns(self) -> DistillLlm:
        if not any((self.logits, self.labels, self.hidden, self.attention)):
            raise ValueError("every weight is 0: set `logits`, `labels`, `hidden` or `attention`")
        if self.lora and self.frozen:
            raise ValueError("`lora` trains nothing but adapters: leave `frozen` out")
        if self.devices > -(-self.batch // self.micro_batch):
            raise ValueError("`devices`: a step has fewer calls than that: raise `batch`, or lower `micro_batch`")
        return self

    @property
    def environment(self) -> str:
        """Adapters come from a library that the others do without."""
        return "peft" if self.lora else type(self).env

    def unavailable(self) -> str | None:
        """Whether a GPU was asked for where none is."""
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """Text to train on, and the teacher."""
        return frozenset({TEACHER, TRAINING})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder with the weights that did best on the held-out windows.

        Raises:
            Refused: another vocabulary than the teacher's, layers that cannot be held against the teacher's, no or too
                little text, unknown `lora.targets`, fewer devices than asked for, or a loss that went out of bounds.
        """
        teacher = context.inputs[TEACHER]
        refuse_other_tokens(model.path, teacher.path)
        batches = self._batches(_text(context), load_tokenizer(model.path), context.seed)
        with together(self, model, context, self.device, self.devices) as team:
            return self._trained(model, teacher, batches, context, team)

    def _trained(self, model: Artifact, teacher: Artifact, batches: Batches, context: Context, team: Team) -> Produced:
        """In each process of the team; the first writes the result."""
        import torch

        folder, load = context.resume, partial(_loaded, team=team, threads=context.threads)
        student, load_teacher = load(model.path), partial(load, teacher.path)
        asked = student.config.vocab_size, self.top_k, self.temperature, context.progress, team
        said = TeacherText.asked(folder, load_teacher, batches.windows, *asked) if self.logits else TeacherText(folder)
        adapters = Adapters.into(student, self.lora, context.seed) if self.lora else None
        if self.frozen:
            student.get_input_embeddings().weight.requires_grad_(False)
        seen = torch.from_numpy(batches.windows[:1]).to(team.device)
        hidden = self._hidden(student, load_teacher, model, seen, context.seed) if self._side_by_side else None
        weights = Weights(**self.model_dump(include=set(Weights.model_fields)))
        how = weights, self.temperature, self.divergence, self.precision, hidden, team
        told = context.progress, curve_of(context), team
        learning = _learning(student, hidden).to(team.device)
        fitted = fit(learning, TextWork(student, said, batches, *how), self._plan(), folder, context.seed, *told)
        facts: dict[str, JsonValue] = {"lora": adapters.facts()} if adapters else {}
        if team.first:
            save_lm((adapters.merge() if adapters else student).eval(), model.path, context.out)
        return self._produced(model, (parameters_of(model.path), parameters_of(teacher.path)), fitted, facts)

    def _plan(self) -> Plan:
        own = self.model_dump(include=set(Plan.model_fields))
        return Plan(steps=self._steps, **own)

    @property
    def _steps(self) -> int:
        return max(1, self.tokens // (self.batch * self.window))

    def _batches(self, text: CalibrationText, tokenizer: Any, seed: int) -> Batches:
        ids = tokenizer(SEPARATOR.join(text.documents), add_special_tokens=False, verbose=False)["input_ids"]
        there, needed = len(ids) // self.window, self.held_out + self.batch
        if there < needed:
            raise Refused(
                f"the training text ({text.name}) has {len(ids):,} tokens: {there} windows of {self.window}; "
                f"{self.held_out} held out and {self.batch} a step need {needed * self.window:,} tokens",
                "give a longer text, or lower `window`, `batch` or `held_out`",
            )
        windows = np.asarray(ids[: there * self.window], dtype=np.int64).reshape(there, self.window)
        used = min(there, self.held_out + self._steps * self.batch)
        windows = windows[np.linspace(0, there - 1, used).round().astype(int)]
        held = np.unique(np.linspace(0, used - 1, self.held_out).round().astype(np.int64))
        return Batches(windows, held, self.batch, self.micro_batch, seed)

    @property
    def _side_by_side(self) -> bool:
        return self.hidden > 0 or self.attention > 0

    def _hidden(self, student: Any, load: Callable[[], Any], model: Artifact, given: Any, seed: int) -> HiddenLoss:
        import torch

        teacher = load()
        torch.manual_seed(seed)  # for the projections: the same in every process
        if self.attention:
            for network in (student, teacher):
                network.set_attn_implementation("eager")  # the others give no attention probabilities
        kept = model.facts.get("kept_layers")
        places = [int(str(place)) for place in kept] if isinstance(kept, list) else None
        pairs = paired(student.config.num_hidden_layers, teacher.config.num_hidden_layers, places)
        return between(student, teacher, pairs, (self.hidden, self.attention), given)

    def _produced(
        self, model: Artifact, parameters: tuple[int, int], fitted: Fit, further: dict[str, JsonValue]
    ) -> Produced:
        """`parameters`: the student's and the teacher's."""
        first, best = fitted.curve[0].score, next(p.score for p in fitted.curve if p.step == fitted.best)
        told: dict[str, JsonValue] = {
            "tokens": fitted.curve[-1].step * self.batch * self.window,
            "steps": fitted.curve[-1].step,
            "kept_step": fitted.best,
            "held_out_perplexity_before": round(first.metric, 3),
            "held_out_perplexity": round(best.metric, 3),
            "parameters_of_teacher": parameters[1],
            **further,
        }
        facts = {**model.facts, "parameters": parameters[0], "precision": "float32", "distillation": told}
        return Produced(facts=facts, notes=notes_of(fitted, *parameters), tables=(fitted.table("perplexity"),))


def _loaded(folder: Path, team: Team, threads: int) -> Any:
    """On this process's device, with its share of the threads."""
    return load_lm(folder, max(1, threads // team.size)).to(team.device)


def _learning(student: Any, hidden: HiddenLoss | None) -> Any:
    """Everything whose weights are trained: the student, and projections that nobody keeps afterwards."""
    import torch

    parts = {"student": student}
    if hidden and hidden.projections is not None:
        parts["projections"] = hidden.projections
    return torch.nn.ModuleDict(parts)


def _text(context: Context) -> CalibrationText:
    given = context.inputs[TRAINING]
    if given.kind != KIND:
        raise Refused(f"`distill_llm` trains on text, and the training data are {given.kind}", "name a text")
    return CalibrationText.load(given.path)
