"""What a config says: the frozen PipelineConfig, and the text that it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue, SerializeAsAny

from pipelines.budget import Budget
from pipelines.fields.data import Data
from pipelines.fields.evaluation import Evaluation
from pipelines.fields.source import Source
from pipelines.notifying import Notify
from pipelines.promotion import Promotion
from pipelines.searching.settings import Search
from pipelines.watching.trigger import Trigger
from stages.base import Frozen, Stage, name_of
from targets.base import Target

TEXT_PARTS, IMAGE_PARTS = ("perplexity", "generation", "speed"), ("classification", "latency")
ENCODER_PARTS = ("embeddings", "latency")
"""Parts of `evaluation:` that suit one kind of model alone."""


class Limits(Frozen):
    """What a step's worker may use."""

    timeout_s: float = Field(3600, gt=0, description="seconds until the step's worker is stopped")
    memory_limit_gb: float | None = Field(None, gt=0, description="most memory of the step's worker, in GB")


class Step(Limits):
    """One stage with its fields, and the limits of its worker."""

    stage: SerializeAsAny[Stage]

    @property
    def name(self) -> str:
        """The stage's config name."""
        return name_of(self.stage)


class Draft(Frozen):
    """Speculative decoding: a smaller model drafts for the last step's, which checks several tokens in one pass."""

    source: Source | None = Field(
        None, description="where the draft model comes from; by default the config's `source`"
    )
    steps: tuple[Step, ...] = Field((), description="what makes of it what the runtime takes as a draft model")
    tokens: int = Field(4, ge=1, le=64, description="tokens drafted a step")
    prompts: int = Field(8, ge=2, description="prompts cut from the evaluation text")
    prompt_tokens: int = Field(64, ge=1, description="tokens a prompt")
    generated: int = Field(64, ge=4, description="tokens generated a prompt")

    @property
    def settings(self) -> dict[str, JsonValue]:
        """What a measurement depends on besides the two models."""
        return self.model_dump(mode="json", exclude={"source", "steps"})


class PipelineConfig(Frozen):
    """A model, the steps that change it, what is measured of it, and what it may lose."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="of the bundle and the MLflow experiment")
    version: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="of the bundle; by default the artifact's digest, shortened"
    )
    source: Source = Field(description="the model that goes in")
    teacher: Source | None = Field(
        None, description="the model that stages which distil learn from; by default the reference"
    )
    steps: tuple[Step, ...] = Field(min_length=1, description="stages and targets, in order")
    draft: Draft | None = Field(None, description="a draft model for the result, and what it is measured on")
    reference: SerializeAsAny[Target] = Field(description="the target that opens the unchanged model")
    data: Data = Field(description="evaluation and calibration texts")
    evaluation: Evaluation = Field(Evaluation(), description="what is measured after every stage")
    budgets: tuple[Budget, ...] = Field((), description="what the result may lose, or must reach")
    trigger: Trigger | None = Field(None, description="where new checkpoints land, for `tapeout watch`")
    promotion: Promotion | None = Field(None, description="when a version that passed becomes the champion")
    notify: Notify | None = Field(None, description="whom to tell how a run ended")
    search: Search | None = Field(None, description="a space of configs around this one, for `tapeout search`")
    store: str | None = Field(
        None,
        pattern=r"^[a-z0-9+]+://",
        description="s3://bucket/prefix, or another address that fsspec opens: results are shared with other machines",
    )
    seed: int = Field(0, ge=0, description="of every draw: bootstrap, task examples, stages")
    threads: int | None = Field(None, ge=1, description="of every worker; by default the usable cores")

    @property
    def drafting(self) -> PipelineConfig | None:
        """The config whose result is this one's draft model."""
        if self.draft is None:
            return None
        changed = {"source": self.draft.source or self.source, "steps": self.draft.steps, "draft": None}
        return self.model_copy(update=changed)

    @property
    def of_embeddings(self) -> bool:
        """Whether the model is a text encoder."""
        return self.evaluation.embeddings is not None and not self.data.of_images

    @property
    def of_arrays(self) -> bool:
        """Whether the model takes arrays and gives arrays: a classifier, or an encoder."""
        return self.data.of_images or self.of_embeddings

    @property
    def unsuited(self) -> tuple[str, ...]:
        """The parts of `evaluation:` that cannot be measured of such a model."""
        every = dict.fromkeys((*TEXT_PARTS, *IMAGE_PARTS, *ENCODER_PARTS))
        suited = IMAGE_PARTS if self.data.of_images else ENCODER_PARTS if self.of_embeddings else TEXT_PARTS
        return tuple(part for part in every if part not in suited)


@dataclass(frozen=True)
class LoadedConfig:
    """A parsed config and the text it came from, secrets not filled in."""

    config: PipelineConfig
    path: Path
    text: str

    @property
    def digest(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """What relative paths in the config are relative to."""
        return self.path.parent
