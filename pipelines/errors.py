"""Every way in which a run ends early.

TapeoutError                exit 3
├── UserError               exit 2   the user's mistake, with the way out
│   ├── ConfigErrors                 every mistake of a config at once
│   ├── SourceError                  the model cannot be had, or is not what the config says
│   ├── DataError                    evaluation or calibration data
│   ├── InputRejected                a stage refused its input
│   ├── EnvironmentUnavailable       a tool environment cannot be built here
│   └── StoreError                   the store is damaged, locked or out of space
├── BudgetExceeded          exit 1   a quality, speed or size budget was not met
└── ToolFailed              exit 3   a tool crashed, ran out of memory or hung
Interrupted                 exit 130 by ^C or SIGTERM
"""

from __future__ import annotations

from pathlib import Path


class TapeoutError(Exception):
    """A message that says what and where, and a hint that says the way out."""

    exit_code = 3
    in_record = False
    """Whether the JSON that a command printed tells it already."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class UserError(TapeoutError):
    """The user's mistake."""

    exit_code = 2


class ConfigErrors(UserError):
    """Every mistake found in a config, each a whole message."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n\n".join(mistakes))
        self.mistakes = mistakes


class SourceError(UserError):
    """The model cannot be fetched, or is not what the config says."""


class DataError(UserError):
    """Evaluation or calibration data is missing, too short or overlapping."""


class InputRejected(UserError):
    """A stage refused its input."""


class EnvironmentUnavailable(UserError):
    """A tool environment cannot be built on this machine."""


class StoreError(UserError):
    """The store is damaged or out of space."""


class BudgetExceeded(TapeoutError):
    """A budget was not met; nothing is packaged."""

    exit_code = 1


class ToolFailed(TapeoutError):
    """A tool crashed, ran out of memory or hung inside its worker."""

    def __init__(self, message: str, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message, hint)
        self.log = log

    @classmethod
    def with_log(cls, name: str, what: str, log: Path, repeat: str) -> ToolFailed:
        """A failure that quotes the log's last lines and says how to run the step alone."""
        quoted = "\n".join(f"  | {line}" for line in last_lines(log))
        message = f"`{name}` {what}" + (f"\n{quoted}" if quoted else "")
        return cls(message, f"the whole log: {log}\nthe step alone: {repeat}", log)


class Interrupted(TapeoutError):
    """^C or SIGTERM arrived; the workers are gone and the store is clean."""

    exit_code = 130


def last_lines(log: Path, n: int = 12) -> list[str]:
    """The last lines of a log that hold anything; of a line redrawn by carriage returns, its last state."""
    try:
        text = log.read_bytes()[-16384:].decode(errors="replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-n:]
