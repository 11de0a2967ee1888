"""Which target opens a step's artifact for measurement, and which artifact is the reference."""

from __future__ import annotations

from pipelines.config import PipelineConfig
from stages.base import load, names
from targets.base import Target


def opener(config: PipelineConfig, number: int, kind: str) -> Target | None:
    """The target that opens the artifact of step `number`: the config's nearest one, else any with its defaults."""
    stages = [step.stage for step in config.steps]
    nearest = [*reversed(stages[:number]), *stages[number:], config.reference]
    for stage in nearest:
        if isinstance(stage, Target) and type(stage).can_open(kind):
            return stage
    able = [load(name) for name in sorted(names())]
    able = [other for other in able if issubclass(other, Target) and other.can_open(kind)]
    makers_first = sorted(able, key=lambda other: other.produces != kind)
    return next((other() for other in makers_first if issubclass(other, Target)), None)


def reference_of(config: PipelineConfig, source_kind: str) -> int | None:
    """Number of the step whose artifact the reference target opens first, 0 for the source; None if it opens none.

    Where a step trains the model, the first one from there on.
    """
    kinds = [source_kind, *(type(step.stage).produces for step in config.steps)]
    trained = [number for number, step in enumerate(config.steps, 1) if type(step.stage).trains]
    opened = (number for number, kind in enumerate(kinds) if type(config.reference).can_open(kind))
    return next((number for number in opened if number >= max(trained, default=0)), None)
