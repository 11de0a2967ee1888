"""The texts of a config, read and checked: what perplexity, tasks and speed are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.config import LoadedConfig
from pipelines.data.datasets import check_disjoint, documents, questions
from pipelines.evaluation.encoding import EncodingRequest
from pipelines.evaluation.questions import Question
from pipelines.fields import Task
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import key_of


@dataclass(frozen=True)
class Texts:
    """What a session is asked to tokenize, and how the data is called in reports."""

    request: EncodingRequest
    record: DataRecord


def read_texts(loaded: LoadedConfig, cache: Path, progress: Progress) -> Texts:
    """Read the evaluation text and the tasks' questions; `cache` keeps what is fetched.

    Raises:
        DataError: unreadable, empty, or sharing text with the calibration data.
    """
    data, base = loaded.config.data, loaded.folder
    evaluation = documents(data.evaluation, base, cache, progress)
    if data.calibration is not None:
        check_disjoint(evaluation, documents(data.calibration, base, cache, progress))
    tasks = {name: _drawn(task, loaded, cache, progress) for name, task in loaded.config.evaluation.tasks.items()}
    request = EncodingRequest(text=evaluation.text, tasks=tasks)
    digest = key_of(request.model_dump(mode="json"))
    record = DataRecord(name=evaluation.name, digest=digest, documents=len(evaluation.texts), tokens=0)
    return Texts(request, record)


def _drawn(task: Task, loaded: LoadedConfig, cache: Path, progress: Progress) -> tuple[Question, ...]:
    every = questions(task.data, loaded.folder, cache, progress).questions
    order = np.random.default_rng(loaded.config.seed).permutation(len(every))[: task.examples]
    return tuple(every[number] for number in sorted(order))
