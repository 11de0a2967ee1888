"""YAML -> frozen PipelineConfig; every mistake at once, with the way out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, SerializeAsAny, ValidationError

from pipelines import yaml_text
from pipelines.budget import Budget
from pipelines.errors import ConfigErrors
from pipelines.fields import IMAGE_READERS, Data, Evaluation, Source
from pipelines.mistakes import did_you_mean, from_pydantic, mistake
from pipelines.notifying import Notify
from pipelines.promotion import Promotion
from pipelines.searching.settings import Search
from pipelines.watching.trigger import Trigger
from stages.base import Frozen, Stage, load, name_of, names
from targets.base import Target

LISTING = "tapeout ls stages"
TEXT_PARTS, IMAGE_PARTS = ("perplexity", "generation", "speed"), ("classification", "latency")
ENCODER_PARTS = ("embeddings", "latency")
"""Parts of `evaluation:` that suit one kind of model alone."""


class Limits(Frozen):
    """What a step's worker may use."""

    timeout_s: float = Field(3600, gt=0, description="seconds until the step's worker is stopped")
    memory_limit_gb: float | None = Field(None, gt=0, description="most memory of the step's worker, in GB")


LIMITS = tuple(Limits.model_fields)


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


def parse(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config file.

    Raises:
        ConfigErrors: everything that is wrong with it.
    """
    origin = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigErrors([mistake(origin, "", f"cannot be read: {reason}", "configs/ holds examples")]) from None
    tree = yaml_text.load(text, origin)
    mistakes = [mistake(origin, "", found) for found in yaml_text.override(tree, overrides)]
    if overrides:
        text = f"# {path.name} with {' '.join(overrides)}\n" + yaml.safe_dump(tree, sort_keys=False)
    config = _build(origin, tree, mistakes)
    return LoadedConfig(config, path, text)


def from_tree(tree: dict[str, Any], path: Path, heading: str) -> LoadedConfig:
    """A config out of a tree in place of a file, which `path` still stands for.

    Raises:
        ConfigErrors: everything that is wrong with it.
    """
    text = heading + yaml.safe_dump(tree, sort_keys=False, width=110)
    return LoadedConfig(_build(str(path), tree, []), path, text)


def _build(origin: str, tree: dict[str, Any], mistakes: list[str]) -> PipelineConfig:
    missing: list[str] = []
    tree = yaml_text.fill_secrets(tree, missing)
    mistakes += [mistake(origin, "", f"${{env:{name}}} is not set", f"export {name}=...") for name in missing]
    tree["steps"] = _steps(origin, tree.get("steps"), mistakes)
    if isinstance(draft := tree.get("draft"), dict) and draft.get("steps"):
        tree["draft"] = {**draft, "steps": _steps(origin, draft["steps"], mistakes, "`draft` ")}
    tree["reference"] = _reference(origin, tree.get("reference", _usual_reference(tree)), mistakes)
    _leave_out(tree)
    try:
        config = PipelineConfig.model_validate(tree)
    except ValidationError as error:
        told = {("steps",), ("reference",)}
        new = [found for found in error.errors() if found["loc"][:1] not in told]
        mistakes += from_pydantic(origin, "", PipelineConfig, new)
    if mistakes:
        raise ConfigErrors(mistakes)
    return _under_budgets(config)


def _under_budgets(config: PipelineConfig) -> PipelineConfig:
    """Each stage knows the least that the budgets ask for, so that one that can aim at it need not be told twice."""
    least = {budget.metric: budget.min for budget in config.budgets if budget.min is not None}
    steps = tuple(step.model_copy(update={"stage": step.stage.under(least)}) for step in config.steps)
    return config.model_copy(update={"steps": steps})


def _usual_reference(tree: dict[str, Any]) -> str:
    source = tree.get("source")
    built = isinstance(source, dict) and "python" in source
    return "pytorch" if built or _of_images(tree) or _of_embeddings(tree) else "transformers"


def _of_images(tree: dict[str, Any]) -> bool:
    data = tree.get("data")
    source = data.get("evaluation") if isinstance(data, dict) else None
    return isinstance(source, dict) and ("digits" in source or source.get("reader") in IMAGE_READERS)


def _of_embeddings(tree: dict[str, Any]) -> bool:
    evaluation = tree.get("evaluation")
    return isinstance(evaluation, dict) and evaluation.get("embeddings") is not None


def _leave_out(tree: dict[str, Any]) -> None:
    """What does not suit the data is not measured, unless the config asks for it: then the plan says why it cannot."""
    data, evaluation = tree.get("data"), tree.get("evaluation", {})
    if isinstance(data, dict) and isinstance(data.get("evaluation"), dict) and isinstance(evaluation, dict):
        own = IMAGE_PARTS if _of_images(tree) else ENCODER_PARTS if _of_embeddings(tree) else TEXT_PARTS
        parts = [part for part in (*TEXT_PARTS, *IMAGE_PARTS) if part not in own]
        tree["evaluation"] = {**dict.fromkeys(parts), **evaluation}


def _steps(origin: str, items: Any, mistakes: list[str], whose: str = "") -> list[Step]:
    if not isinstance(items, list) or not items:
        mistakes.append(mistake(origin, f"{whose}`steps`", "needs a list of stages", LISTING))
        return []
    built = [_step(origin, f"{whose}step {number}", item, mistakes) for number, item in enumerate(items, 1)]
    return [step for step in built if step is not None]


def _step(origin: str, place: str, item: Any, mistakes: list[str]) -> Step | None:
    mapping = {item: {}} if isinstance(item, str) else item
    others = [key for key in mapping if key not in LIMITS] if isinstance(mapping, dict) else []
    stages = [key for key in others if key in names()] or others[:1]
    if len(stages) != 1:
        hint = f"write `- quantize_gguf: {{type: q6_k}}`, with {' or '.join(LIMITS)} beside it"
        mistakes.append(mistake(origin, place, f"needs exactly one stage, found {len(stages)}", hint))
        return None
    place = f"{place} `{stages[0]}`"
    stage = _stage(origin, place, stages[0], mapping[stages[0]], mistakes)
    mistakes += [_beside(origin, place, key, stages[0]) for key in others if key != stages[0]]
    try:
        limits = Limits.model_validate({key: mapping[key] for key in LIMITS if key in mapping})
    except ValidationError as error:
        mistakes += from_pydantic(origin, place, Limits, error.errors())
        return None
    return Step(stage=stage, **dict(limits)) if stage else None


def _beside(origin: str, place: str, key: str, stage: str) -> str:
    field = stage in names() and key in load(stage).model_fields
    hint = f"indent it: it is a field of `{stage}`" if field else did_you_mean(key, LIMITS)
    return mistake(origin, place, f"no field `{key}` beside the stage", hint)


def _stage(origin: str, place: str, name: str, fields: Any, mistakes: list[str]) -> Stage | None:
    if name not in names():
        known = [known for known in names() if known != "dummy"]  # for unit tests
        mistakes.append(mistake(origin, place, "no stage of that name", did_you_mean(name, known, LISTING)))
        return None
    kind = load(name)
    try:
        return kind.model_validate({} if fields is None else fields)
    except ValidationError as error:
        mistakes += from_pydantic(origin, place, kind, error.errors())
        return None


def _reference(origin: str, item: Any, mistakes: list[str]) -> Target | None:
    mapping = {item: None} if isinstance(item, str) else item
    if not isinstance(mapping, dict) or len(mapping) != 1:
        mistakes.append(mistake(origin, "`reference`", "needs one target, by its name", "tapeout ls targets"))
        return None
    [(name, fields)] = mapping.items()
    if name in names() and not issubclass(load(name), Target):
        mistakes.append(mistake(origin, f"`reference` `{name}`", "a stage, but not a target", "tapeout ls targets"))
        return None
    found = _stage(origin, f"`reference` `{name}`", name, fields, mistakes)
    return found if isinstance(found, Target) else None
