"""YAML -> frozen PipelineConfig; every mistake at once, with the way out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SerializeAsAny, ValidationError

from pipelines import yaml_text
from pipelines.budget import Budget
from pipelines.errors import ConfigErrors
from pipelines.fields import Data, Evaluation, Source
from pipelines.mistakes import did_you_mean, from_pydantic, mistake
from stages.base import Frozen, Stage, load, name_of, names
from targets.base import Target

LISTING = "tapeout ls stages"


class Step(Frozen):
    """One stage with its fields, and the limits of its worker."""

    stage: SerializeAsAny[Stage]
    timeout_s: float = Field(3600, gt=0, description="seconds until the step's worker is stopped")
    memory_limit_gb: float | None = Field(None, gt=0, description="most memory of the step's worker, in GB")

    @property
    def name(self) -> str:
        """The stage's config name."""
        return name_of(self.stage)


class PipelineConfig(Frozen):
    """A model, the steps that change it, what is measured of it, and what it may lose."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="of the bundle and the MLflow experiment")
    version: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="of the bundle; by default the artifact's digest, shortened"
    )
    source: Source = Field(description="the model that goes in")
    steps: tuple[Step, ...] = Field(min_length=1, description="stages and targets, in order")
    reference: SerializeAsAny[Target] = Field(description="the target that opens the unchanged model")
    data: Data = Field(description="evaluation and calibration texts")
    evaluation: Evaluation = Field(Evaluation(), description="what is measured after every stage")
    budgets: tuple[Budget, ...] = Field((), description="what the result may lose, or must reach")
    seed: int = Field(0, ge=0, description="of every draw: bootstrap, task examples, stages")
    threads: int | None = Field(None, ge=1, description="of every worker; by default the usable cores")


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


def _build(origin: str, tree: dict[str, Any], mistakes: list[str]) -> PipelineConfig:
    missing: list[str] = []
    tree = yaml_text.fill_secrets(tree, missing)
    mistakes += [mistake(origin, "", f"${{env:{name}}} is not set", f"export {name}=...") for name in missing]
    tree["steps"] = _steps(origin, tree.get("steps"), mistakes)
    tree["reference"] = _reference(origin, tree.get("reference", "transformers"), mistakes)
    try:
        config = PipelineConfig.model_validate(tree)
    except ValidationError as error:
        found = [item for item in error.errors() if not (mistakes and item["loc"][:1] in {("steps",), ("reference",)})]
        mistakes += from_pydantic(origin, "", PipelineConfig, found)
    if mistakes:
        raise ConfigErrors(mistakes)
    return config


def _steps(origin: str, items: Any, mistakes: list[str]) -> list[Step]:
    if not isinstance(items, list) or not items:
        mistakes.append(mistake(origin, "`steps`", "needs a list of stages", LISTING))
        return []
    built = [_step(origin, f"step {number}", item, mistakes) for number, item in enumerate(items, 1)]
    return [step for step in built if step is not None]


def _step(origin: str, place: str, item: Any, mistakes: list[str]) -> Step | None:
    limits = [name for name in Step.model_fields if name != "stage"]
    mapping = {item: {}} if isinstance(item, str) else item
    stages = [key for key in mapping if key not in limits] if isinstance(mapping, dict) else []
    if len(stages) != 1:
        hint = f"write `- quantize_gguf: {{type: q6_k}}`, with {' or '.join(limits)} beside it"
        mistakes.append(mistake(origin, place, f"needs exactly one stage, found {len(stages)}", hint))
        return None
    stage = _stage(origin, f"{place} `{stages[0]}`", stages[0], mapping[stages[0]], mistakes)
    try:
        return Step(stage=stage, **{key: mapping[key] for key in limits if key in mapping}) if stage else None
    except ValidationError as error:
        mistakes += from_pydantic(origin, f"{place} `{stages[0]}`", Step, error.errors())
        return None


def _stage(origin: str, place: str, name: str, fields: Any, mistakes: list[str]) -> Stage | None:
    if name not in names():
        mistakes.append(mistake(origin, place, "no stage of that name", did_you_mean(name, names(), LISTING)))
        return None
    kind = load(name)
    try:
        return kind.model_validate(fields or {})
    except ValidationError as error:
        mistakes += from_pydantic(origin, place, kind, error.errors())
        return None


def _reference(origin: str, item: Any, mistakes: list[str]) -> Target | None:
    name, fields = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, {})
    stage = _stage(origin, f"`reference` `{name}`", str(name), fields, mistakes)
    if stage is not None and not isinstance(stage, Target):
        mistakes.append(mistake(origin, f"`reference` `{name}`", "a stage, but not a target", "tapeout ls targets"))
        return None
    return stage
