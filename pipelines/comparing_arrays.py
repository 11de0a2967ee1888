"""What every comparison of models of arrays shares: outputs that are numbers, and speed against the float version."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.comparison import Comparer, Metrics
from pipelines.errors import ToolFailed
from pipelines.evaluation.array_latency import array_speed_metrics, array_warnings
from pipelines.evaluation.classification import broken
from pipelines.evaluation.speed import size_metric
from pipelines.measures import DeviceFacts
from pipelines.measuring_arrays import ArrayMeasurer
from stages.base import Artifact

A = TypeVar("A", bound=ArrayMeasurer)
Outputs = NDArray[np.float32]


def saturating(artifact: Artifact, device: DeviceFacts) -> list[str]:
    """A warning where INT8 loses on this CPU what it does not lose on one with VNNI.

    Without it `vpmaddubsw` adds two products of uint8 and int8 in 16 bits, which saturates: 2 x 255 x 127 > 32767.
    ONNX Runtime's and NNCF's documentation ask for weights in 7 bits there.
    """
    whole = artifact.facts.get("precision") == "int8" and not artifact.facts.get("reduce_range")
    if not whole or "avx2" not in device.features or any("vnni" in each for each in device.features):
        return []
    return ["INT8 on a CPU without VNNI: sums of products saturate at 16 bits; `reduce_range: true` avoids that here"]


class ArrayComparer(Comparer[A]):
    """A model of arrays against the reference; it is timed against its float version in the same runtime."""

    timed_against = "its float version"

    def _both(self, what: str) -> tuple[Outputs, Outputs]:
        """Every output of the candidate and of the reference; `what` was put in, in the plural.

        Raises:
            ToolFailed: one of them is no number.
        """
        self._notes += saturating(self._candidate.subject.artifact, self._measurer.bench.device)
        theirs = self._measurer.outputs(self._measurer.reference)
        _refuse_broken("the reference", theirs, what)
        mine = self._measurer.outputs(self._candidate.subject)
        _refuse_broken(self._candidate.stage, mine, what)
        return mine, theirs

    def _speed(self, mine: Metrics, theirs: Metrics) -> None:
        candidate = self._candidate
        mine["size_bytes"] = size_metric(candidate.size_bytes, candidate.reference_bytes)
        theirs["size_bytes"] = size_metric(candidate.reference_bytes, None)
        if self._config.evaluation.latency is None:
            return
        baseline = candidate.baseline or self._measurer.reference
        samples, seed = self._measurer.timed(candidate.subject, baseline), self._config.seed
        mine.update(array_speed_metrics(samples, "candidate", seed))
        if baseline == self._measurer.reference:
            theirs.update(array_speed_metrics(samples, "baseline", seed))
        self._notes += array_warnings(samples, candidate.stage)


def _refuse_broken(made_by: str, outputs: Outputs, what: str) -> None:
    if rows := broken(outputs):
        raise ToolFailed(
            f"{made_by}: the model's outputs are not finite for {rows} of {len(outputs)} {what}",
            "its weights or its conversion are broken: `tapeout artifacts ls` says where it lies",
        )
