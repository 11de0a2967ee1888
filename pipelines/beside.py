"""What stages are given besides the model: calibration data, and what stages beside the chain made."""

from __future__ import annotations

from pipelines.config import PipelineConfig
from pipelines.mistakes import Found
from stages.base import load, names

CALIBRATION, TRAINING = "calibration", "training"
"""Those of a stage's `extra_inputs` that come from the config's data."""
TEACHER = "teacher"
"""The one that is the config's `teacher`, or else the reference."""


def missing_inputs(config: PipelineConfig, reference: int | None) -> Found:
    """Each input that a step cannot do without and that nothing before it gives.

    `reference` is the number of the step whose artifact is the reference, 0 for the source.
    """
    given = {name for name in (CALIBRATION, TRAINING) if getattr(config.data, name)}
    for number, step in enumerate(config.steps, 1):
        if config.teacher or (reference is not None and number > reference):
            given |= {TEACHER}
        stage = type(step.stage)
        for name in sorted(step.stage.needs() - given):
            yield f"step {number} `{step.name}`", *_missing(name)
        given |= {stage.produces} if stage.beside else set()


def _missing(name: str) -> tuple[str, str]:
    if name == CALIBRATION:
        return "looks at real inputs, and there are none", "name `data: calibration:`"
    if name == TRAINING:
        return "trains on data, and there are none", "name `data: training:`"
    if name == TEACHER:
        return "learns from the reference, which comes later", "name a `teacher:`, or put the step after the reference"
    makers = [other for other in sorted(names()) if load(other).beside and load(other).produces == name]
    return f"needs {name}, which no step before it makes", f"put `{makers[0]}` before it" if makers else ""
