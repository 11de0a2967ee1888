"""Stages and targets by their names in a config, each with its fields; every mistake is added to a list."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipelines.config import Limits, Step
from pipelines.mistakes import did_you_mean, from_pydantic, mistake
from stages.base import Stage, load, names
from targets.base import Target

LISTING = "tapeout ls stages"
LIMITS = tuple(Limits.model_fields)


def parse_steps(origin: str, items: Any, mistakes: list[str], whose: str = "") -> list[Step]:
    """The steps without mistakes; the mistakes of the others are added."""
    if not isinstance(items, list) or not items:
        mistakes.append(mistake(origin, f"{whose}`steps`", "needs a list of stages", LISTING))
        return []
    built = [_step(origin, f"{whose}step {number}", item, mistakes) for number, item in enumerate(items, 1)]
    return [step for step in built if step is not None]


def parse_reference(origin: str, item: Any, mistakes: list[str]) -> Target | None:
    """The target that opens the unchanged model; None of a mistake, which is added."""
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
