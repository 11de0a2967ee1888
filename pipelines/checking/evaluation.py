"""Is the evaluation worth something, and possible: on data that nothing else saw, with parts and limits that suit?"""

from __future__ import annotations

from pipelines.config import PipelineConfig
from pipelines.fields.data import BuiltinData, Data, HeldOut
from pipelines.fields.evaluation import Evaluation
from pipelines.mistakes import Found

MULTIPLE_CHOICE = "multiple-choice"
LIMITED = {"perplexity": "windows", "speed": "pairs", "latency": "pairs"}
"""Parts that draw more samples while a verdict is open, and of what: `max_...` is the most."""


def unfit(config: PipelineConfig) -> Found:
    """Everything about data and evaluation that would make the measurement worthless or impossible."""
    yield from _shared(config.data)
    yield from _held_out(config.data)
    yield from _tasks_without_questions(config.evaluation)
    yield from _unsuited(config)
    yield from _limits(config.evaluation)
    if config.data.evaluation_reader == MULTIPLE_CHOICE:
        yield "`data` `evaluation`", "multiple choice is no running text", "name it under `evaluation: tasks:`"
    if config.of_embeddings and config.evaluation.tasks:
        yield "`evaluation` `tasks`", "cannot be measured on embeddings", "leave it out"


def _shared(data: Data) -> Found:
    if data.calibration == data.evaluation:
        builtin = isinstance(data.evaluation, BuiltinData)
        hint = "give calibration the other half" if builtin else "name another text"
        yield "`data`", "calibration and evaluation are the same text: the measurement would be worthless", hint
    if data.training == data.evaluation:
        yield "`data`", "training and evaluation are the same: the measurement would be worthless", "use `held_out`"


def _held_out(data: Data) -> Found:
    for name, source in (("calibration", data.calibration), ("training", data.training)):
        if isinstance(source, HeldOut) and not data.of_images:
            yield f"`data` `{name}`", "`held_out` is for labelled images", "name another text"


def _tasks_without_questions(evaluation: Evaluation) -> Found:
    for name, task in evaluation.tasks.items():
        if getattr(task.data, "reader", "") != MULTIPLE_CHOICE:
            yield f"`evaluation` `tasks` `{name}`", f"needs data with the reader `{MULTIPLE_CHOICE}`", ""


def _unsuited(config: PipelineConfig) -> Found:
    given = "images" if config.data.of_images else "embeddings" if config.of_embeddings else "text"
    for part in config.unsuited:
        if getattr(config.evaluation, part):
            yield f"`evaluation` `{part}`", f"cannot be measured on {given}", "leave it out"


def _limits(evaluation: Evaluation) -> Found:
    for part, least in LIMITED.items():
        settings, most = getattr(evaluation, part), f"max_{least}"
        if settings is not None and getattr(settings, most) < getattr(settings, least):
            yield f"`evaluation` `{part}`", f"`{most}` is less than `{least}`", ""
