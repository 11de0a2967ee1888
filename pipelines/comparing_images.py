"""Comparing classifiers: every evaluation image decides, so that no verdict can draw more."""

from __future__ import annotations

from pipelines.comparing_arrays import ArrayComparer
from pipelines.comparison import Metrics
from pipelines.evaluation.classification import classification_metrics
from pipelines.measuring_images import ImageMeasurer


class ImageComparer(ArrayComparer[ImageMeasurer]):
    """One classifier's comparison with the reference."""

    def _quality(self) -> tuple[Metrics, Metrics]:
        if self._config.evaluation.classification is None:
            return {}, {}
        labels = self._measurer.labels
        mine, theirs = self._both("images")
        return classification_metrics(mine, theirs, labels), classification_metrics(theirs, None, labels)
