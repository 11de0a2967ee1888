"""Comparing classifiers: every evaluation image decides, so that no verdict can draw more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.comparison import Comparer, Metrics
from pipelines.errors import ToolFailed
from pipelines.evaluation.array_latency import array_speed_metrics, array_warnings
from pipelines.evaluation.classification import broken, classification_metrics
from pipelines.evaluation.speed import size_metric
from pipelines.measuring_images import ImageMeasurer


class ImageComparer(Comparer[ImageMeasurer]):
    """One classifier's comparison with the reference; it is timed against its float version in the same runtime."""

    timed_against = "its float version"

    def _quality(self) -> tuple[Metrics, Metrics]:
        if self._config.evaluation.classification is None:
            return {}, {}
        labels = self._measurer.labels
        theirs = self._outputs("the reference", self._measurer.outputs(self._measurer.reference))
        mine = self._outputs(self._candidate.stage, self._measurer.outputs(self._candidate.subject))
        return classification_metrics(mine, theirs, labels), classification_metrics(theirs, None, labels)

    def _outputs(self, made_by: str, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        if rows := broken(outputs):
            raise ToolFailed(
                f"{made_by}: the model's outputs are not finite for {rows} of {len(outputs)} images",
                "its weights or its conversion are broken: `tapeout artifacts ls` says where it lies",
            )
        return outputs

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
