"""The raw measurements of a model of arrays: its outputs on every input, and timed batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.array_timing import time_batches
from pipelines.evaluation.array_latency import ArraySpeedSamples
from pipelines.measuring import Bench, Measurer, Subject
from pipelines.store import WorkFolder
from stages.base import Artifact, Produced


class ArrayMeasurer(Measurer):
    """Measures models of arrays on the same inputs, `batch` of them a call."""

    def __init__(self, bench: Bench, reference: Subject, batch: int) -> None:
        super().__init__(bench, reference)
        self._batch = batch
        self._baselines: set[str] = set()

    @property
    def inputs(self) -> Artifact:
        """What is measured on, an artifact that `stages._inputs` reads."""
        raise NotImplementedError

    def release(self, subject: Subject) -> None:
        """Close a candidate's session, unless later candidates are timed against it."""
        if subject.name not in self._baselines:
            super().release(subject)

    def outputs(self, subject: Subject) -> NDArray[np.float32]:
        """The model's first output for every input, shape (inputs, values)."""

        def make(work: WorkFolder) -> Produced:
            session = self.session(subject)
            out = str(work.out / "outputs.npy")
            session.call("predict", examples=str(self.inputs.path), batch=self._batch, out=out)
            return Produced()

        parts: dict[str, JsonValue] = {"examples": self.inputs.digest, "batch": self._batch}
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
            samples = time_batches(sessions, str(self.inputs.path), settings, self.bench.progress)
            (work.out / "samples.json").write_text(samples.model_dump_json())
            return Produced()

        parts: dict[str, JsonValue] = {
            "examples": self.inputs.digest,
            "baseline": self.identity(baseline),
            "latency": settings.model_dump(mode="json"),
            "threads": self.bench.threads,
        }
        made = self.obtain("latency", candidate, parts, make)
        return ArraySpeedSamples.model_validate_json((made.artifact.path / "samples.json").read_text())
