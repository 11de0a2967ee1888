"""The measurer that suits a config's data."""

from __future__ import annotations

from pipelines.config import PipelineConfig
from pipelines.data.example_sets import ExampleSets
from pipelines.data.reading import Data
from pipelines.data.retrieval import RetrievalSets
from pipelines.measuring import Bench, Measurer, Subject
from pipelines.measuring_embeddings import EncoderMeasurer
from pipelines.measuring_images import ImageMeasurer
from pipelines.measuring_texts import TextMeasurer
from pipelines.workshop import Workshop


def measurer_of(
    data: Data, config: PipelineConfig, shop: Workshop, reference: Subject, against: Subject | None = None
) -> Measurer:
    """What measures on these data against the reference, or against another subject in its place."""
    bench = Bench(
        config=config,
        store=shop.store,
        runner=shop.runner,
        device=shop.device,
        progress=shop.progress,
        logs=shop.logs,
        threads=shop.threads,
        data=data.record,
    )
    against = against or reference
    if isinstance(data, ExampleSets):
        return ImageMeasurer(bench, against, data)
    if isinstance(data, RetrievalSets):
        return EncoderMeasurer(bench, against, data, reference)  # whose tokens all are measured on
    return TextMeasurer(bench, against, data.request)
