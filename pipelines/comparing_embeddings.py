"""Comparing text encoders: every evaluation text decides, so that no verdict can draw more."""

from __future__ import annotations

from pipelines.comparing_arrays import ArrayComparer
from pipelines.comparison import Metrics
from pipelines.errors import ToolFailed
from pipelines.evaluation.embeddings import embedding_metrics
from pipelines.measuring_embeddings import EncoderMeasurer


class EmbeddingComparer(ArrayComparer[EncoderMeasurer]):
    """One encoder's comparison with the reference."""

    def _quality(self) -> tuple[Metrics, Metrics]:
        mine, theirs = self._both("texts")
        if mine.shape != theirs.shape:
            raise ToolFailed(
                f"{self._candidate.stage}: embeddings of {mine.shape[1]} values, and of {theirs.shape[1]} before",
                "one vector a text, of the same width, is what can be compared: see the model's pooling",
            )
        if cut := self._measurer.cut:
            self._notes.append(cut)
        searched, seed = self._measurer.searched, self._config.seed
        return embedding_metrics(mine, theirs, searched, seed), embedding_metrics(theirs, None, searched, seed)
