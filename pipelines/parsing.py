"""YAML -> frozen PipelineConfig; every mistake at once, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines import yaml_text
from pipelines.config import LoadedConfig, PipelineConfig
from pipelines.errors import ConfigErrors
from pipelines.mistakes import from_pydantic, mistake
from pipelines.parsing_steps import parse_reference, parse_steps
from pipelines.unsaid import leave_out, usual_reference


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
    tree["steps"] = parse_steps(origin, tree.get("steps"), mistakes)
    if isinstance(draft := tree.get("draft"), dict) and draft.get("steps"):
        tree["draft"] = {**draft, "steps": parse_steps(origin, draft["steps"], mistakes, "`draft` ")}
    tree["reference"] = parse_reference(origin, tree.get("reference", usual_reference(tree)), mistakes)
    leave_out(tree)
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
