"""The models beside the one that is made: the teacher it learns from, and the draft model that goes with it."""

from __future__ import annotations

from pathlib import Path

from pipelines.beside import TEACHER, missing_inputs
from pipelines.checking import files, steps
from pipelines.config import LoadedConfig, PipelineConfig
from pipelines.mistakes import Found
from pipelines.opening import opener
from pipelines.source_kind import kind_of_source
from stages.base import load, name_of, names
from targets.base import Target


def unfit_teacher(loaded: LoadedConfig) -> Found:
    """Each step that distils takes a teacher of its own kind."""
    config = loaded.config
    if config.teacher is None:
        return
    kind = kind_of_source(config.teacher, loaded.folder)
    learning = [step for step in config.steps if TEACHER in type(step.stage).extra_inputs]
    if not learning:
        yield "`teacher`", "no step learns from a teacher", "leave it out, or add `distill`"
    for step in learning:
        if kind not in type(step.stage).consumes:
            takes = " or ".join(sorted(type(step.stage).consumes))
            yield "`teacher`", f"is {kind}, and `{step.name}` learns from {takes}", ""


def unfit_draft(loaded: LoadedConfig, environments: Path) -> Found:
    """The draft model's own steps chain, and give what the runtime of the result drafts with."""
    config, drafting = loaded.config, loaded.config.drafting
    if drafting is None:
        return
    if config.of_arrays:
        yield "`draft`", "drafts text, and the model gives none", "leave it out"
        return
    if config.evaluation.speed is None:
        yield "`draft`", "its gain is not measured: `evaluation` leaves out `speed`", ""
    kind = kind_of_source(drafting.source, loaded.folder)
    for place, what, hint in (
        *steps.unchained(drafting, kind),
        *missing_inputs(drafting, 0),  # it is made once the reference is there
        *steps.unavailable(drafting, environments),
        *files.missing_source(drafting.source, loaded.folder),
    ):
        yield f"`draft` {place}", what, hint
    yield from _undrafted(config, _kind_at_last(drafting, kind))


def _undrafted(config: PipelineConfig, kind: str) -> Found:
    """The runtime of the result takes no draft model, or none of this kind."""
    result = type(config.steps[-1].stage).produces
    runtime = opener(config, len(config.steps), result)
    if runtime is None or not type(runtime).drafts:
        others = [name for name in sorted(names()) if issubclass(stage := load(name), Target) and stage.drafts]
        hint = "of the runtimes here " + ", ".join(f"`{name}`" for name in others if name != "dummy") + " does"
        yield "`draft`", f"what opens {result} here takes no draft model", hint
    elif kind not in type(runtime).drafts:
        takes = " or ".join(sorted(type(runtime).drafts))
        yield "`draft`", f"is {kind}, and `{name_of(runtime)}` drafts with {takes}", f"let its `steps` end in {takes}"


def _kind_at_last(config: PipelineConfig, kind: str) -> str:
    return [kind, *(type(step.stage).produces for step in config.steps if not type(step.stage).beside)][-1]
