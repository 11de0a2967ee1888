"""The raw measurements of a classifier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.data.example_sets import ExampleSets
from pipelines.measuring import Bench, Subject
from pipelines.measuring_arrays import ArrayMeasurer
from stages._examples import Examples
from stages.base import Artifact


class ImageMeasurer(ArrayMeasurer):
    """Measures classifiers on the same images."""

    def __init__(self, bench: Bench, reference: Subject, examples: ExampleSets) -> None:
        settings = bench.config.evaluation.classification
        super().__init__(bench, reference, settings.batch if settings else 1)
        self._examples = examples.evaluation

    @property
    def inputs(self) -> Artifact:
        """The evaluation images."""
        return self._examples

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of every evaluation image, shape (images,)."""
        return Examples.load(self._examples.path).labels
