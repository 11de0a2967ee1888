"""What stages are given besides the model: calibration data, and what stages beside the chain made."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.config import PipelineConfig
from stages.base import load, names

CALIBRATION = "calibration"
"""The one of a stage's `extra_inputs` that comes from the config's data."""


def missing_inputs(config: PipelineConfig) -> Iterator[tuple[str, str, str]]:
    """(place, message, hint) for each input that a step cannot do without and that nothing before it gives."""
    given = {CALIBRATION} if config.data.calibration else set()
    for number, step in enumerate(config.steps, 1):
        stage = type(step.stage)
        for name in sorted(step.stage.needs() - given):
            yield f"step {number} `{step.name}`", *_missing(name)
        given |= {stage.produces} if stage.beside else set()


def _missing(name: str) -> tuple[str, str]:
    if name == CALIBRATION:
        return "looks at real inputs, and there are none", "name `data: calibration:`"
    makers = [other for other in sorted(names()) if load(other).beside and load(other).produces == name]
    return f"needs {name}, which no step before it makes", f"put `{makers[0]}` before it" if makers else ""
