"""The texts of a config, read and checked: what perplexity, tasks and speed are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.config import LoadedConfig
from pipelines.data.datasets import Documents, check_disjoint, documents, questions
from pipelines.evaluation.encoding import EncodingRequest
from pipelines.evaluation.questions import Question
from pipelines.fields import Task
from pipelines.making import Recipe, obtain
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import Store, WorkFolder, key_of
from stages._calibration_text import KIND, CalibrationText
from stages.base import Artifact, Produced

GIVEN = ("calibration", "training")


@dataclass(frozen=True)
class Texts:
    """What a session is asked to tokenize, how reports call the data, and what stages may look at and train on."""

    request: EncodingRequest
    record: DataRecord
    calibration: Artifact | None = None
    training: Artifact | None = None


def read_texts(loaded: LoadedConfig, store: Store, cache: Path, progress: Progress) -> Texts:
    """Read the evaluation text, the tasks' questions, the calibration and the training text; `cache` keeps them.

    What stages are given goes into the store as artifacts.

    Raises:
        DataError: unreadable, empty, or sharing text with what stages are given.
    """
    data, base = loaded.config.data, loaded.folder
    evaluation = documents(data.evaluation, base, cache, progress)
    tasks = {name: _drawn(task, loaded, cache, progress) for name, task in loaded.config.evaluation.tasks.items()}
    measured = (evaluation, *(_as_documents(name, asked) for name, asked in tasks.items()))
    given: dict[str, Artifact] = {}
    for part in GIVEN:
        if source := getattr(data, part):
            text = documents(source, base, cache, progress)
            for shown in measured:
                check_disjoint(shown, text, part)
            given[part] = _published(part, text, store, progress)
    request = EncodingRequest(text=evaluation.text, tasks=tasks)
    digest = key_of(request.model_dump(mode="json"))
    record = DataRecord(name=evaluation.name, digest=digest, documents=len(evaluation.texts), tokens=0)
    return Texts(request, record, **given)


def _published(part: str, text: Documents, store: Store, progress: Progress) -> Artifact:
    """The text as an artifact: its key is its contents, so is what is made from it."""

    def make(work: WorkFolder) -> Produced:
        CalibrationText(name=text.name, documents=text.texts).save(work.out)
        return Produced(facts={"documents": len(text.texts), "characters": sum(map(len, text.texts))})

    recipe = Recipe(f"data:{part}", KIND, {"name": text.name, "texts": text.digest}, (), make)
    return obtain(store, recipe, progress).artifact


def _as_documents(task: str, asked: tuple[Question, ...]) -> Documents:
    """A task's questions as texts, each with every choice, as a model is shown them."""
    texts = tuple(question.prompt + choice for question in asked for choice in question.choices)
    return Documents(name=f"task {task}", digest=key_of({"texts": list(texts)}), texts=texts)


def _drawn(task: Task, loaded: LoadedConfig, cache: Path, progress: Progress) -> tuple[Question, ...]:
    every = questions(task.data, loaded.folder, cache, progress).questions
    order = np.random.default_rng(loaded.config.seed).permutation(len(every))[: task.examples]
    return tuple(every[number] for number in sorted(order))
