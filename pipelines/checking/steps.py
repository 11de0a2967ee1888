"""Does each step take what the one before it gives, and can it run here?"""

from __future__ import annotations

from pathlib import Path

from pipelines.config import PipelineConfig
from pipelines.mistakes import Found, did_you_mean
from stages.base import load, names


def unchained(config: PipelineConfig, kind: str) -> Found:
    """Each step that takes another kind than it is given; `kind` is the source's."""
    before = "the source"
    for number, step in enumerate(config.steps, 1):
        stage, place = type(step.stage), f"step {number} `{step.name}`"
        if kind not in stage.consumes:
            takes = " or ".join(sorted(stage.consumes))
            yield place, f"takes {takes}, but {before} gives {kind}", _bridge(kind, stage.consumes)
        if not stage.beside:
            kind, before = stage.produces, place
    if config.steps and type(config.steps[-1].stage).beside:
        yield f"step {len(config.steps)} `{config.steps[-1].name}`", "is the last step: nothing would use it", ""


def _bridge(kind: str, wanted: frozenset[str]) -> str:
    ways = [name for name in sorted(names()) if kind in load(name).consumes and load(name).produces in wanted]
    return f"put `{ways[0]}` before it" if ways else f"no stage turns {kind} into {' or '.join(sorted(wanted))}"


def unavailable(config: PipelineConfig, environments: Path) -> Found:
    """Each step that this machine cannot run, or whose tool environment is not among the pinned files of the folder."""
    known = {file.stem for file in environments.glob("*.txt")}
    for number, step in enumerate(config.steps, 1):
        place, reason, needed = f"step {number} `{step.name}`", step.stage.unavailable(), step.stage.environment
        if reason is not None:
            yield place, f"cannot run here: {reason}", "tapeout doctor"
        if needed not in known and needed != "dummy":
            yield place, f"no tool environment `{needed}`", did_you_mean(needed, known)
