"""The labelled images of a config as artifacts: one set to measure on, one to calibrate on, never the same image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from pipelines.config import LoadedConfig
from pipelines.data import images
from pipelines.data.datasets import file_of, name_of
from pipelines.errors import DataError
from pipelines.fetching.downloads import sha256_of
from pipelines.fields import DataSource, DigitsData, FileData, HeldOut
from pipelines.making import Recipe, obtain
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import Store, WorkFolder
from stages._examples import Examples
from stages.base import ROOT, Artifact, Produced

CODE = tuple(ROOT / path for path in ("pipelines/data/images.py", "pipelines/data/example_sets.py"))


@dataclass(frozen=True)
class ExampleSets:
    """Two artifacts of kind `examples`, and how the evaluation data is called in reports."""

    evaluation: Artifact
    calibration: Artifact | None
    record: DataRecord


def read_examples(loaded: LoadedConfig, store: Store, cache: Path, progress: Progress) -> ExampleSets:
    """Both sets out of the store, or read and published now; `cache` keeps what is fetched.

    Raises:
        DataError: unreadable, empty, or an image that stands in both sets.
    """
    reading = _Reading(loaded, cache, progress)
    evaluation = reading.published(store, "evaluation")
    calibration = reading.published(store, "calibration") if loaded.config.data.calibration else None
    if calibration:
        _check_disjoint(evaluation, calibration)
        if warning := images.one_class(Examples.load(calibration.path).labels):
            progress.say(f"calibration: {warning}")
    count = len(Examples.load(evaluation.path))
    name = name_of(loaded.config.data.evaluation)
    record = DataRecord(name=name, digest=evaluation.digest, documents=count, tokens=0)
    return ExampleSets(evaluation, calibration, record)


@dataclass(frozen=True)
class _Reading:
    loaded: LoadedConfig
    cache: Path
    progress: Progress

    def published(self, store: Store, part: images.Part) -> Artifact:
        data = self.loaded.config.data

        def make(work: WorkFolder) -> Produced:
            pixels, labels = self._part(part)
            Examples(pixels, labels, data.preprocess).save(work.out)
            classes = len(np.unique(labels))
            return Produced(facts={"examples": len(labels), "classes": classes, "shape": list(pixels.shape[1:])})

        parts: dict[str, JsonValue] = {
            "part": part,
            "files": [self._state(source) for source in (data.evaluation, data.calibration) if source],
            "preprocess": data.preprocess.model_dump(mode="json"),
            "code": hashlib.sha256(b"".join(path.read_bytes() for path in CODE)).hexdigest(),
        }
        return obtain(store, Recipe(f"data:{part}", "examples", parts, (), make), self.progress).artifact

    def _part(self, part: images.Part) -> images.Images:
        data = self.loaded.config.data
        if isinstance(data.calibration, HeldOut):
            return images.split(*self._images(data.evaluation), part, data.calibration.held_out)
        source = data.evaluation if part == "evaluation" else data.calibration
        assert source is not None
        return self._images(source)

    def _images(self, source: DataSource) -> images.Images:
        if isinstance(source, DigitsData):
            return images.digits()
        if not isinstance(source, FileData) or source.reader not in images.READERS:
            raise DataError(
                f"{name_of(source)}: holds no labelled images", "the readers are " + ", ".join(images.READERS)
            )
        return images.READERS[source.reader](file_of(source, self.loaded.folder, self.cache, self.progress))

    def _state(self, source: DataSource | HeldOut) -> list[JsonValue]:
        """What the images depend on: the fields, and the bytes of a file that no digest pins."""
        fields: JsonValue = source.model_dump(mode="json")
        if not isinstance(source, FileData) or source.sha256:
            return [fields]
        path = file_of(source, self.loaded.folder, self.cache, self.progress)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return [fields, [[str(file.relative_to(path.parent)), sha256_of(file)] for file in files]]


def _check_disjoint(evaluation: Artifact, calibration: Artifact) -> None:
    measured, shown = Examples.load(evaluation.path), Examples.load(calibration.path)
    if shared := images.shared_images(measured.pixels, shown.pixels):
        raise DataError(
            f"{shared} of the {len(shown)} calibration images stand among the evaluation images as well",
            "leave them out of one of the two",
        )
