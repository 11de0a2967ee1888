"""Measures a passed run's artifact against the champion, on the same data, in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipelines.comparing import Candidate, compare
from pipelines.errors import SourceError, TapeoutError, UserError
from pipelines.manifest import MANIFEST, check_files, read_manifest
from pipelines.measuring import Measurer, Subject
from pipelines.promotion import FIRST, Champion, Promoted, Promotion, decide
from pipelines.records import StageRecord
from pipelines.store import Store
from stages.base import Artifact
from targets.base import Target


def challenge(
    promotion: Promotion,
    champion: Champion | None,
    subject: Subject,
    record: StageRecord,
    store: Store,
    measuring: Callable[[Subject], Measurer],
) -> Promoted:
    """The word on a subject that passed. `record` is of its stage, `measuring` measures with the champion as reference.

    What cannot be compared, a model with other inputs or a champion that is damaged, is no reason to fail a run that
    passed: the champion stays.
    """
    if champion is None:
        return FIRST
    if champion.digest == subject.artifact.digest:
        return _kept(champion, "it is the champion already")
    try:
        theirs, their_bytes = _subject_of(champion, store, subject.target)
    except TapeoutError as error:
        return _kept(champion, error.message)
    with measuring(theirs) as measurer:
        candidate = Candidate(
            subject=subject,
            stage=record.stage,
            size_bytes=record.size_bytes,
            reference_bytes=their_bytes,
            deployable=True,
            baseline=theirs if measurer.bench.config.of_arrays else None,
        )
        return _compared(promotion, champion, measurer, candidate)


def _compared(promotion: Promotion, champion: Champion, measurer: Measurer, candidate: Candidate) -> Promoted:
    try:
        comparison, _ = compare(measurer, candidate)
    except TapeoutError as error:
        return _kept(champion, f"cannot be compared with the champion: {error.message.splitlines()[0]}")
    return decide(promotion, comparison.candidate, champion.version)


def _kept(champion: Champion, reason: str) -> Promoted:
    """The champion stays, without a comparison."""
    return Promoted(decision="kept", reason=reason, champion=champion.version)


def _subject_of(champion: Champion, store: Store, opener: Target) -> tuple[Subject, int]:
    """The champion's artifact, from the store or else from its bundle, with the target that opens it; its bytes.

    Raises:
        SourceError: it is neither in the store nor whole in its bundle.
    """
    try:
        entry = store.find(champion.digest)
    except UserError:
        artifact, size_bytes = _bundled(champion)
    else:
        artifact, size_bytes = store.artifact(entry), entry.size_bytes
    return Subject(artifact, opener), size_bytes


def _bundled(champion: Champion) -> tuple[Artifact, int]:
    parts = urlsplit(champion.source)
    bundle = Path(url2pathname(parts.path))
    if parts.scheme not in {"", "file"} or not (bundle / MANIFEST).is_file():
        hint = "run on the machine that made it, or let a version that is here be the champion: `tapeout rollback`"
        raise SourceError(f"the champion, version {champion.version}, is not on this machine: {champion.source}", hint)
    manifest = read_manifest(bundle)
    if damaged := check_files(bundle):
        raise SourceError(f"the champion's bundle {bundle} is damaged: {damaged[0]}", "")
    known = next(stage for stage in reversed(manifest.stages) if stage.artifact == manifest.artifact)
    size_bytes = int(manifest.metrics["size_bytes"].value) if "size_bytes" in manifest.metrics else 0
    return Artifact(kind=known.kind or manifest.kind, path=bundle, digest=manifest.artifact), size_bytes
