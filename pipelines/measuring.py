"""What every measurement shares: the bench it runs on, live sessions, and a cache of its own for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from pipelines.config import PipelineConfig
from pipelines.keys import evaluation_digest, fingerprint
from pipelines.making import Made, Recipe, obtain
from pipelines.measures import DeviceFacts
from pipelines.progress import Progress
from pipelines.records import DataRecord
from pipelines.runner import LiveSession, Runner
from pipelines.sessions import Sessions, Subject
from pipelines.store import Store, WorkFolder
from stages.base import Artifact, Produced

__all__ = ["Bench", "Measurer", "Subject"]


@dataclass(frozen=True)
class Bench:
    """What every measurement needs besides its subjects and its data."""

    config: PipelineConfig
    store: Store
    runner: Runner
    device: DeviceFacts
    progress: Progress
    logs: Path
    threads: int
    data: DataRecord


class Measurer:
    """Measures subjects. Use it as a context manager: sessions opened on the way are closed at its end."""

    def __init__(self, bench: Bench, reference: Subject) -> None:
        self.bench, self.reference = bench, reference
        self._sessions = Sessions(bench.runner, bench.threads, bench.logs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sessions.close_all()

    def release(self, subject: Subject) -> None:
        """Close a candidate's session; the reference's stays open for the next one."""
        if subject.name != self.reference.name:
            self._sessions.close(subject)

    @property
    def data(self) -> DataRecord:
        """The evaluation data as it was used."""
        return self.bench.data

    @property
    def given(self) -> Mapping[str, Artifact]:
        """What the reference makes of the config's data for stages to look at, by input name."""
        return {}

    @property
    def context_length(self) -> int:
        """The most tokens of any sequence; of no meaning for a model of arrays."""
        return 0

    def session(self, subject: Subject) -> LiveSession:
        """The subject's live session."""
        return self._sessions.of(subject, self.context_length)

    def identity(self, subject: Subject) -> dict[str, JsonValue]:
        """What a measurement of the subject depends on: its bytes and the target that opens it."""
        lock = self.bench.runner.lock_digest(subject.target)
        return {"artifact": subject.artifact.digest, "target": fingerprint(subject.target, lock)}

    def draft_identity(self, draft: Artifact | None) -> dict[str, JsonValue]:
        """What a measurement with a draft model depends on besides the candidate; nothing without one."""
        settings = self.bench.config.draft
        return {"draft": {"artifact": draft.digest, **settings.settings}} if draft and settings else {}

    def obtain(
        self, what: str, subject: Subject, parts: dict[str, JsonValue], make: Callable[[WorkFolder], Produced]
    ) -> Made:
        """One raw measurement of the subject, from the store or made now."""
        whole: dict[str, JsonValue] = {
            **parts,
            "subject": self.identity(subject),
            "evaluators": evaluation_digest(),
            "device": self.bench.device.identity,
        }
        parents = (subject.artifact.digest,)
        return obtain(self.bench.store, Recipe(f"measure:{what}", what, whole, parents, make), self.bench.progress)
