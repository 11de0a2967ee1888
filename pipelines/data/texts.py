"""The texts of a config, read and checked: what perplexity, tasks and speed are measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from pipelines.config import LoadedConfig
from pipelines.data.datasets import Documents, check_disjoint, documents, questions
from pipelines.data.languages import LEAST_ALIKE, another_language
from pipelines.evaluation.encoding import EncodingRequest
from pipelines.evaluation.questions import Question
from pipelines.fields.evaluation import Task
from pipelines.making import Recipe, obtain
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import Store, WorkFolder, key_of
from stages._calibration_text import KIND, CalibrationText
from stages.base import Artifact, Produced

CALIBRATION = "calibration"
GIVEN = (CALIBRATION, "training")


@dataclass(frozen=True)
class Texts:
    """What a session is asked to tokenize, how reports call the data, and what stages may look at and train on.

    `doubt` says why the calibration text may not suit the evaluation's, where it may not.
    """

    request: EncodingRequest
    record: DataRecord
    calibration: Artifact | None = None
    training: Artifact | None = None
    doubt: str = ""

    @property
    def given(self) -> dict[str, Artifact]:
        """What stages are given, by input name."""
        return {part: artifact for part in GIVEN if (artifact := getattr(self, part))}

    @property
    def doubts(self) -> dict[str, str]:
        """The doubt by the name of the input that it is about."""
        return {CALIBRATION: self.doubt} if self.doubt else {}


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
    doubt = ""
    for part in GIVEN:
        if source := getattr(data, part):
            text = documents(source, base, cache, progress)
            for shown in measured:
                check_disjoint(shown, text, part)
            given[part] = _published(part, text, store, progress)
            if part == CALIBRATION:
                doubt = _doubt(evaluation, text, store, progress)
    request = EncodingRequest(text=evaluation.text, tasks=tasks)
    digest = key_of(request.model_dump(mode="json"))
    record = DataRecord(name=evaluation.name, digest=digest, documents=len(evaluation.texts), tokens=0)
    return Texts(request, record, **given, doubt=doubt)


def _published(part: str, text: Documents, store: Store, progress: Progress) -> Artifact:
    """The text as an artifact: its key is its contents, so is what is made from it."""

    def make(work: WorkFolder) -> Produced:
        CalibrationText(name=text.name, documents=text.texts).save(work.out)
        return Produced(facts={"documents": len(text.texts), "characters": sum(map(len, text.texts))})

    recipe = Recipe(f"data:{part}", KIND, {"name": text.name, "texts": text.digest}, (), make)
    return obtain(store, recipe, progress).artifact


def _doubt(evaluation: Documents, calibration: Documents, store: Store, progress: Progress) -> str:
    """Whether the two are in one language, looked at once for these texts."""

    def make(work: WorkFolder) -> Produced:
        alike = another_language(evaluation.texts, calibration.texts)
        (work.out / "likeness.json").write_text(json.dumps(alike))
        return Produced(facts={"likeness": alike})

    parts: dict[str, JsonValue] = {"evaluation": evaluation.digest, "calibration": calibration.digest, "version": 1}
    alike = obtain(store, Recipe("data:language", "likeness", parts, (), make), progress).artifact.facts["likeness"]
    if not isinstance(alike, float):
        return ""
    return (
        f"the calibration text ({calibration.name}) seems to be in another language than the evaluation's: "
        f"likeness {alike:.2f}, one language has {LEAST_ALIKE} or more"
    )


def _as_documents(task: str, asked: tuple[Question, ...]) -> Documents:
    """A task's questions as texts, each with every choice, as a model is shown them."""
    texts = tuple(question.prompt + choice for question in asked for choice in question.choices)
    return Documents(name=f"task {task}", digest=key_of({"texts": list(texts)}), texts=texts)


def _drawn(task: Task, loaded: LoadedConfig, cache: Path, progress: Progress) -> tuple[Question, ...]:
    every = questions(task.data, loaded.folder, cache, progress).questions
    order = np.random.default_rng(loaded.config.seed).permutation(len(every))[: task.examples]
    return tuple(every[number] for number in sorted(order))
