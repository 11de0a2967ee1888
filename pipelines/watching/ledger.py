"""What became of each checkpoint, by the digest of its bytes; outlives every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipelines.errors import UserError
from pipelines.home import locked, try_lock
from pipelines.watching.trigger import ATTEMPTS
from stages.base import Frozen

State = Literal["waiting", "announced", "running", "passed", "halted", "aside", "replaced"]
OPEN: tuple[State, ...] = ("waiting", "announced", "running")
CLOSED: tuple[State, ...] = ("halted", "aside", "replaced")
"""Decided, and may be tried again; what passed is not."""


class Checkpoint(Frozen):
    """One checkpoint of a config."""

    digest: str
    number: int = Field(description="in order of landing")
    name: str = Field(description="as it was first found")
    overrides: tuple[str, ...] = Field(description="what makes it the config's source")
    seen: str = Field(description="UTC, ISO 8601")
    state: State = "waiting"
    announced: str = Field("", description="UTC, ISO 8601, the last time")
    attempts: int = 0
    failed: str = Field("", description="UTC, ISO 8601, when the last attempt did")
    reason: str = Field("", description="why it was not passed, or the last attempt failed")

    @property
    def open(self) -> bool:
        """Whether it still has to be decided."""
        return self.state in OPEN


class Ledger:
    """The checkpoints of one config, a file each."""

    def __init__(self, home: Path, name: str) -> None:
        self.folder = home / "watch" / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[Checkpoint]:
        """Every checkpoint, in order of landing."""
        found = [Checkpoint.model_validate_json(path.read_text()) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda checkpoint: checkpoint.number)

    def get(self, digest: str) -> Checkpoint | None:
        """The checkpoint with these bytes."""
        path = self._file(digest)
        return Checkpoint.model_validate_json(path.read_text()) if path.is_file() else None

    def add(self, digest: str, name: str, overrides: tuple[str, ...]) -> Checkpoint | None:
        """Remember a new one; None if its bytes are known, under whatever name."""
        with self._changing():
            if self._file(digest).is_file():
                return None
            number = max((known.number for known in self.all()), default=0) + 1
            new = Checkpoint(digest=digest, number=number, name=name, overrides=overrides, seen=now())
            return self._write(new)

    def again(self, digest: str, overrides: tuple[str, ...]) -> Checkpoint:
        """The bytes of a known one were found, maybe elsewhere: what was replaced before it ran can run now."""
        with self._changing():
            known = Checkpoint.model_validate_json(self._file(digest).read_text())
            changes: dict[str, object] = {"overrides": overrides}
            if known.state == "replaced":
                changes |= {"state": "waiting", "attempts": 0, "failed": ""}
            changed = known.model_copy(update=changes)
            return known if changed == known else self._write(changed)

    def update(self, digest: str, **changes: object) -> Checkpoint:
        """Change what is known of one."""
        with self._changing():
            known = Checkpoint.model_validate_json(self._file(digest).read_text())
            return self._write(known.model_copy(update=changes))

    @contextmanager
    def claimed(self, digest: str) -> Iterator[Checkpoint | None]:
        """The checkpoint, this process's alone for the length of the block; None if it is another's, or decided.

        The claim ends with its process, however that ends: a killed run leaves `running` without a claim.
        """
        with try_lock(self._claim(digest)) as free:
            known = self.get(digest) if free else None
            yield known if known and known.open else None

    def is_claimed(self, digest: str) -> bool:
        """Whether a live process works on it."""
        with try_lock(self._claim(digest), shared=True) as free:
            return not free

    def failed(self, checkpoint: Checkpoint, reason: str) -> Checkpoint:
        """One attempt came to nothing; the third sets the checkpoint aside."""
        state: State = "aside" if checkpoint.attempts >= ATTEMPTS else "waiting"
        return self.update(checkpoint.digest, state=state, reason=reason, failed=now())

    def reopen(self, digest: str) -> Checkpoint:
        """Try the one whose digest begins so from the start, with its place in the order.

        Raises:
            UserError: none or several do; lists what can be.
        """
        can = [known for known in self.all() if known.state in CLOSED]
        meant = [known for known in can if known.digest.startswith(digest.lower())]
        if len(meant) != 1:
            told = f"digests of {len(meant)} checkpoints" if meant else "digest of no checkpoint"
            raise UserError(
                f"{digest}: the {told} that can be tried again begin{'' if meant else 's'} so",
                "\n".join(f"{known.digest[:12]}  {known.state:<8}  {known.name}" for known in meant or can)
                or "none was halted, set aside or replaced",
            )
        return self.update(meant[0].digest, state="waiting", attempts=0, failed="")

    def _file(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"

    def _claim(self, digest: str) -> Path:
        return self.folder / f"{digest}.lock"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self.folder / "lock"):
            yield

    def _write(self, checkpoint: Checkpoint) -> Checkpoint:
        work = self._file(checkpoint.digest).with_suffix(".new")
        work.write_text(checkpoint.model_dump_json(indent=1), encoding="utf-8")
        work.replace(self._file(checkpoint.digest))
        return checkpoint


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
