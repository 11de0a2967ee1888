"""The texts of an encoder's config: passages, and queries with the passage that answers each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipelines.beside import CALIBRATION, TRAINING
from pipelines.config import LoadedConfig
from pipelines.data import readers
from pipelines.data.datasets import Documents, check_disjoint, documents, file_of, name_of
from pipelines.errors import DataError
from pipelines.evaluation.tokenizing import Retrieval
from pipelines.fields.data import DataSource, FileData, HeldOut
from pipelines.fields.evaluation import Embeddings
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import key_of
from stages.base import Artifact

T = TypeVar("T")
TRAINED_ON = 20_000
"""Passages, and queries, at most."""
LEAST_WORDS = 8
"""Of a paragraph that counts as a passage: headings do not."""


@dataclass(frozen=True)
class RetrievalSets:
    """What an encoder is measured on and, where the config names them, what it is calibrated and trained with."""

    evaluation: Retrieval
    calibration: Retrieval | None
    training: Retrieval | None
    record: DataRecord

    @property
    def given(self) -> dict[str, Artifact]:
        """Nothing yet: stages are given tokens, which the reference makes of the texts."""
        return {}

    @property
    def doubts(self) -> dict[str, str]:
        """None: there is nothing to doubt yet."""
        return {}


def read_retrieval(loaded: LoadedConfig, cache: Path, progress: Progress) -> RetrievalSets:
    """All sets; `cache` keeps what is fetched.

    Raises:
        DataError: unreadable, too few passages, or text that stands in the evaluation's and in another.
    """
    data, settings, base = loaded.config.data, loaded.config.evaluation.embeddings, loaded.folder
    assert settings is not None
    evaluation = retrieval(data.evaluation, settings, base, cache, progress)
    more = settings.model_copy(update={"passages": TRAINED_ON, "queries": TRAINED_ON})
    asked = {CALIBRATION: (data.calibration, settings), TRAINING: (data.training, more)}
    given = {
        part: retrieval(source, its, base, cache, progress)
        for part, (source, its) in asked.items()
        if source is not None
    }
    for part, (source, _) in asked.items():
        if source is not None:
            own = _documents(name_of(data.evaluation), evaluation)
            check_disjoint(own, _documents(name_of(source), given[part]), part)
    texts = len(evaluation.passages) + len(evaluation.queries)
    digest = key_of(evaluation.model_dump(mode="json"))
    record = DataRecord(name=name_of(data.evaluation), digest=digest, documents=texts, tokens=0)
    return RetrievalSets(evaluation, given.get(CALIBRATION), given.get(TRAINING), record)


def retrieval(
    source: DataSource | HeldOut, settings: Embeddings, base: Path, cache: Path, progress: Progress
) -> Retrieval:
    """Passages of the source, evenly spaced, and of their questions as many as asked for, evenly spaced.

    SQuAD's layout has contexts for passages and questions for queries; of any other text the passages are its
    paragraphs, and there are no queries.

    Raises:
        DataError: fewer passages than a search for the neighbours needs.
    """
    asked: tuple[tuple[str, str], ...] = ()
    if isinstance(source, FileData) and source.reader == "squad":
        asked = readers.squad_questions(file_of(source, base, cache, progress))
    found = documents(source, base, cache, progress).texts
    every = found if asked else _paragraphs(found)
    if len(every) <= settings.neighbours:
        raise DataError(
            f"{name_of(source)}: {len(every)} passages are too few to look at the {settings.neighbours} nearest of",
            "give more text, or lower `evaluation: embeddings: neighbours:`",
        )
    passages = _evenly(every, settings.passages)
    number = {passage: index for index, passage in enumerate(passages)}
    pairs = [(question, number[context]) for question, context in asked if context in number]
    chosen = _evenly(tuple(pairs), settings.queries)
    return Retrieval(
        passages=passages, queries=tuple(query for query, _ in chosen), relevant=tuple(index for _, index in chosen)
    )


def _paragraphs(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, in order."""
    every = (part.strip() for text in texts for part in text.split("\n\n"))
    return tuple(dict.fromkeys(part for part in every if len(part.split()) >= LEAST_WORDS))


def _evenly(items: tuple[T, ...], most: int) -> tuple[T, ...]:
    if len(items) <= most:
        return items
    return tuple(items[index] for index in np.arange(most) * len(items) // max(most, 1))


def _documents(name: str, texts: Retrieval) -> Documents:
    whole = (*texts.passages, *texts.queries)
    return Documents(name=name, digest=key_of({"texts": [*whole]}), texts=whole)
