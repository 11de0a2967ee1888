"""The raw measurements of a classifier: its outputs on every image, and timed batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.array_timing import time_batches
from pipelines.data.example_sets import ExampleSets
from pipelines.evaluation.array_latency import ArraySpeedSamples
from pipelines.measuring import Bench, Measurer, Subject
from pipelines.store import WorkFolder
from stages._examples import Examples
from stages.base import Produced


class ImageMeasurer(Measurer):
    """Measures classifiers on the same images."""

    def __init__(self, bench: Bench, reference: Subject, examples: ExampleSets) -> None:
        super().__init__(bench, reference)
        self._examples = examples.evaluation
        self._baselines: set[str] = set()

    def release(self, subject: Subject) -> None:
        """Close a candidate's session, unless later candidates are timed against it."""
        if subject.name not in self._baselines:
            super().release(subject)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of every evaluation image, shape (images,)."""
        return Examples.load(self._examples.path).labels

    def outputs(self, subject: Subject) -> NDArray[np.float32]:
        """The model's first output for every evaluation image, shape (images, classes)."""
        settings = self.bench.config.evaluation.classification
        assert settings is not None

        def make(work: WorkFolder) -> Produced:
            session = self.session(subject)
            session.call(
                "predict", examples=str(self._examples.path), batch=settings.batch, out=str(work.out / "outputs.npy")
            )
            return Produced()

        parts: dict[str, JsonValue] = {"examples": self._examples.digest, "batch": settings.batch}
        made = self.obtain("outputs", subject, parts, make)
        found: NDArray[np.float32] = np.load(made.artifact.path / "outputs.npy", allow_pickle=False)
        return found

    def timed(self, candidate: Subject, baseline: Subject) -> ArraySpeedSamples:
        """Baseline and candidate timed in alternating blocks at each batch size."""
        settings = self.bench.config.evaluation.latency
        assert settings is not None
        self._baselines.add(baseline.name)

        def make(work: WorkFolder) -> Produced:
            sessions = self.session(baseline), self.session(candidate)
            samples = time_batches(sessions, str(self._examples.path), settings, self.bench.progress)
            (work.out / "samples.json").write_text(samples.model_dump_json())
            return Produced()

        parts: dict[str, JsonValue] = {
            "examples": self._examples.digest,
            "baseline": self.identity(baseline),
            "latency": settings.model_dump(mode="json"),
            "threads": self.bench.threads,
        }
        made = self.obtain("latency", candidate, parts, make)
        return ArraySpeedSamples.model_validate_json((made.artifact.path / "samples.json").read_text())
