"""What goes into the process of one config and what comes out, as files in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipelines.config import LoadedConfig
from pipelines.device import device_facts
from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError, ToolFailed, UserError
from pipelines.outcome import Outcome
from pipelines.records import RunRecord
from stages.base import Frozen

ORDER, ENDED, LOG, STOP, KILL = "order.json", "ended.json", "log", "stop", "kill"
BY_EXIT_CODE = {error.exit_code: error for error in (BudgetExceeded, UserError, ToolFailed, Interrupted)}
F = TypeVar("F", bound=Frozen)


class Order(Frozen):
    """One config to run. `folder` is its own; in the folder above, the files `stop` and `kill` end all of them."""

    name: str
    config: Path
    overrides: tuple[str, ...]
    dist: Path
    tracked: bool
    cwd: Path
    folder: Path
    module: str = "pipelines.fanout.child"


class Problem(Frozen):
    """An error that crosses processes."""

    exit_code: int
    message: str
    hint: str

    @classmethod
    def of(cls, error: TapeoutError) -> Problem:
        """What is to be said of it."""
        return cls(exit_code=error.exit_code, message=error.message, hint=error.hint)

    def error(self) -> TapeoutError:
        """An error that says the same and ends with the same exit code."""
        return BY_EXIT_CODE[self.exit_code](self.message, self.hint)


class Ended(Frozen):
    """How a config's process ended: with a record, or before it had one; `problem` is None for one that passed."""

    record: RunRecord | None
    problem: Problem | None

    @classmethod
    def early(cls, error: TapeoutError) -> Ended:
        """Before there was a record."""
        return cls(record=None, problem=Problem.of(error))

    def outcome(self, loaded: LoadedConfig) -> Outcome:
        """As of a run in this process; a run that has no record of its own gets one that says why."""
        error = self.problem.error() if self.problem else None
        return Outcome(self.record or _unstarted(loaded, error), error)


def _unstarted(loaded: LoadedConfig, error: TapeoutError | None) -> RunRecord:
    return RunRecord(
        name=loaded.config.name,
        config_path=str(loaded.path),
        config_digest=loaded.digest,
        config_text=loaded.text,
        status="interrupted" if isinstance(error, Interrupted) else "failed",
        message=error.message if error else "",
        seed=loaded.config.seed,
        device=device_facts(),
    )


def left(folder: Path, name: str, value: Frozen) -> None:
    """Write a value into the folder, whole or not at all."""
    work = folder / f"{name}.new"
    work.write_text(value.model_dump_json(indent=1), encoding="utf-8")
    work.replace(folder / name)


def found(folder: Path, name: str, kind: type[F]) -> F:
    """The value that lies there.

    Raises:
        FileNotFoundError: none does.
    """
    return kind.model_validate_json((folder / name).read_text(encoding="utf-8"))
