"""A candidate's comparison with the reference, kept whole, so that a replay decides as the first run did."""

from __future__ import annotations

from pydantic import JsonValue

from pipelines.comparing_embeddings import EmbeddingComparer
from pipelines.comparing_images import ImageComparer
from pipelines.comparing_texts import TextComparer
from pipelines.comparison import Candidate, Comparer, Comparison
from pipelines.keys import evaluation_digest
from pipelines.making import Recipe, obtain
from pipelines.measuring import Measurer
from pipelines.measuring_embeddings import EncoderMeasurer
from pipelines.measuring_images import ImageMeasurer
from pipelines.measuring_texts import TextMeasurer
from pipelines.store import WorkFolder
from stages.base import Produced

__all__ = ["Candidate", "Comparison", "compare"]


def compare(measurer: Measurer, candidate: Candidate) -> tuple[Comparison, float]:
    """The comparison, and the seconds it cost when it was made."""
    bench, fresh = measurer.bench, _comparer(measurer, candidate)
    config = bench.config

    def make(work: WorkFolder) -> Produced:
        (work.out / "comparison.json").write_text(fresh.comparison().model_dump_json())
        return Produced()

    parts: dict[str, JsonValue] = {
        "candidate": measurer.identity(candidate.subject),
        "reference": measurer.identity(measurer.reference),
        "baseline": measurer.identity(candidate.baseline) if candidate.baseline else None,
        "stage": candidate.stage,
        "deployable": candidate.deployable,
        **({} if candidate.judged else {"judged": False}),
        **measurer.draft_identity(candidate.draft),
        "data": bench.data.digest,
        "evaluation": config.evaluation.model_dump(mode="json"),
        "budgets": [budget.model_dump(mode="json") for budget in config.budgets],
        "seed": config.seed,
        "threads": bench.threads,
        "device": bench.device.identity,
        "evaluators": evaluation_digest(),
    }
    parents = (candidate.subject.artifact.digest, measurer.reference.artifact.digest)
    made = obtain(bench.store, Recipe("measure:comparison", "comparison", parts, parents, make), bench.progress)
    text = (made.artifact.path / "comparison.json").read_text()
    return Comparison.model_validate_json(text), made.entry.seconds


_Any = Comparer[ImageMeasurer] | Comparer[EncoderMeasurer] | Comparer[TextMeasurer]


def _comparer(measurer: Measurer, candidate: Candidate) -> _Any:
    if isinstance(measurer, ImageMeasurer):
        return ImageComparer(measurer, candidate)
    if isinstance(measurer, EncoderMeasurer):
        return EmbeddingComparer(measurer, candidate)
    assert isinstance(measurer, TextMeasurer)
    return TextComparer(measurer, candidate)
