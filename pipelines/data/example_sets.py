"""The labelled images of a config as artifacts: to measure, calibrate and train on, never the same image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from pipelines.config import LoadedConfig
from pipelines.data import image_parts, images
from pipelines.data.datasets import file_of, name_of
from pipelines.data.image_types import Images
from pipelines.errors import DataError
from pipelines.fetching.downloads import sha256_of
from pipelines.fields.data import DataSource, DigitsData, FileData, HeldOut
from pipelines.making import Recipe, obtain
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.store import Store, WorkFolder
from stages._examples import Examples
from stages.base import ROOT, Artifact, Produced

GIVEN: tuple[image_parts.Part, ...] = ("calibration", "training")
CODE = tuple(
    ROOT / "pipelines" / "data" / f"{name}.py"
    for name in ("images", "image_decoding", "image_parts", "bigbench_images", "npz_images", "example_sets")
)


@dataclass(frozen=True)
class ExampleSets:
    """Artifacts of kind `examples`: `given` are those that stages get, by input name; `record` names the evaluation.

    `doubts` says why one of `given` may not do, where it may not.
    """

    evaluation: Artifact
    given: Mapping[str, Artifact]
    record: DataRecord
    doubts: Mapping[str, str] = field(default_factory=dict)


def read_examples(loaded: LoadedConfig, store: Store, cache: Path, progress: Progress) -> ExampleSets:
    """Every set out of the store, or read and published now; `cache` keeps what is fetched.

    Raises:
        DataError: unreadable, empty, or an image that stands in both sets.
    """
    reading = _Reading(loaded, cache, progress)
    evaluation = reading.published(store, "evaluation")
    given: dict[str, Artifact] = {
        part: reading.published(store, part) for part in GIVEN if getattr(loaded.config.data, part)
    }
    doubts: dict[str, str] = {}
    for part, artifact in given.items():
        _check_disjoint(evaluation, artifact, part)
        if warning := image_parts.one_class(Examples.load(artifact.path).labels):
            doubts[part] = f"{part}: {warning}"
            progress.say(doubts[part])
    count = len(Examples.load(evaluation.path))
    name = name_of(loaded.config.data.evaluation)
    record = DataRecord(name=name, digest=evaluation.digest, documents=count, tokens=0)
    return ExampleSets(evaluation, given, record, doubts)


@dataclass(frozen=True)
class _Reading:
    loaded: LoadedConfig
    cache: Path
    progress: Progress

    def published(self, store: Store, part: image_parts.Part) -> Artifact:
        data = self.loaded.config.data

        def make(work: WorkFolder) -> Produced:
            pixels, labels = self._part(part)
            Examples(pixels, labels, data.preprocess).save(work.out)
            classes = len(np.unique(labels))
            return Produced(facts={"examples": len(labels), "classes": classes, "shape": list(pixels.shape[1:])})

        parts: dict[str, JsonValue] = {
            "part": part,
            "files": [self._state(source) for source in (data.evaluation, data.calibration, data.training) if source],
            "preprocess": data.preprocess.model_dump(mode="json"),
            "code": hashlib.sha256(b"".join(path.read_bytes() for path in CODE)).hexdigest(),
        }
        return obtain(store, Recipe(f"data:{part}", "examples", parts, (), make), self.progress).artifact

    def _part(self, part: image_parts.Part) -> Images:
        data = self.loaded.config.data
        source = {"evaluation": data.evaluation, "calibration": data.calibration, "training": data.training}[part]
        assert source is not None
        if part != "evaluation" and not isinstance(source, HeldOut):
            return self._images(source)
        return image_parts.split(*self._images(data.evaluation), part, _held(data.calibration), _held(data.training))

    def _images(self, source: DataSource) -> Images:
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


def _held(source: DataSource | HeldOut | None) -> int:
    return source.held_out if isinstance(source, HeldOut) else 0


def _check_disjoint(evaluation: Artifact, given: Artifact, part: str) -> None:
    measured, shown = Examples.load(evaluation.path), Examples.load(given.path)
    if shared := image_parts.shared_images(measured.pixels, shown.pixels):
        raise DataError(
            f"{shared} of the {len(shown)} {part} images stand among the evaluation images as well",
            "leave them out of one of the two",
        )
