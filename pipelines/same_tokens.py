"""Whether a candidate's own tokenizer gives the reference's ids: over other tokens perplexities cannot be compared."""

from __future__ import annotations

from pydantic import JsonValue

from pipelines.errors import InputRejected
from pipelines.making import Recipe, obtain
from pipelines.progress import Progress
from pipelines.store import Store, WorkFolder
from stages._gguf_header import find
from stages._vocabulary import Vocabulary, difference, vocabulary_of_folder, vocabulary_of_gguf
from stages.base import Artifact, Produced

VERSION = 1  # raised when the comparison changes
Other = tuple[str, str]
"""What differs, and the way out."""
CANDIDATE: Other = (
    "its tokenizer is another than the reference's",
    "perplexities over other tokens cannot be compared: convert it from the reference's own folder",
)
DRAFT: Other = (
    "the draft model's tokenizer is another than the reference's",
    "a draft is token ids: take a model of the same family, or distil one from the reference",
)


def check_tokens(
    reference: Artifact, candidate: Artifact, store: Store, progress: Progress, other: Other = CANDIDATE
) -> None:
    """Compare the two vocabularies, once for these artifacts; a model without one passes.

    Raises:
        InputRejected: a token of the reference has another id in the candidate.
    """
    if reference.digest == candidate.digest:
        return

    def make(work: WorkFolder) -> Produced:
        told = told_apart(reference, candidate)
        if told is not None:
            raise InputRejected(f"{other[0]}: {told}", other[1])
        (work.out / "same.txt").write_text("the candidate gives every token of the reference its id\n")
        return Produced()

    parts: dict[str, JsonValue] = {"reference": reference.digest, "candidate": candidate.digest, "version": VERSION}
    parents = (candidate.digest, reference.digest)
    obtain(store, Recipe("measure:tokenizer", "tokenizer", parts, parents, make), progress)


def told_apart(reference: Artifact, candidate: Artifact) -> str | None:
    """The first token that differs, in words."""
    theirs, ours = _vocabulary(reference), _vocabulary(candidate)
    return difference(theirs, ours) if theirs and ours else None


def _vocabulary(artifact: Artifact) -> Vocabulary | None:
    if artifact.kind == "gguf":
        return vocabulary_of_gguf(find(artifact.path))
    return vocabulary_of_folder(artifact.path)
