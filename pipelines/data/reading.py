"""The data of a config, whatever kind of model they are for."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.data.example_sets import ExampleSets, read_examples
from pipelines.data.retrieval import RetrievalSets, read_retrieval
from pipelines.data.texts import Texts, read_texts
from pipelines.progress import Progress
from pipelines.store import Store

Data = Texts | ExampleSets | RetrievalSets
"""Each has the `record` of the evaluation data, what stages are `given` by input name, and `doubts` of that."""


def read_data(loaded: LoadedConfig, store: Store, cache: Path, progress: Progress) -> Data:
    """The evaluation data, checked against the calibration's; `cache` keeps what is fetched.

    Raises:
        DataError: unreadable, too little, or sharing examples with what stages are given.
    """
    if loaded.config.data.of_images:
        return read_examples(loaded, store, cache, progress)
    if loaded.config.of_embeddings:
        return read_retrieval(loaded, cache, progress)
    return read_texts(loaded, store, cache, progress)
