"""A flow run that a process carries out: a file whose lock ends with the process, and the state it ended in."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.home import locked
from pipelines.stack.running import folder
from stages.base import Frozen

_HELD: dict[Path, ExitStack] = {}


class Ended(Frozen):
    """A state as Prefect's API takes it."""

    type: str
    name: str
    message: str | None = None


def take(home: Path, flow_run: str) -> None:
    """Hold the flow run until `let_go`, or until this process is gone, however it ends."""
    held = ExitStack()
    held.enter_context(locked(files(home) / flow_run))
    _HELD[files(home) / flow_run] = held


def ends_as(home: Path, flow_run: str, state: Any) -> Any:
    """The state of Prefect in which it ends, remembered before Prefect is told: whoever finds the file can tell it.

    A full disk forgets it, and changes nothing of how the run ended.
    """
    told = Ended(type=state.type.value, name=state.name, message=state.message)
    with suppress(OSError):
        (files(home) / flow_run).write_text(told.model_dump_json(), encoding="utf-8")
    return state


def let_go(home: Path, flow_run: str, *, told: bool = True) -> None:
    """No longer in hand; the file goes with it unless Prefect could not be told."""
    file = files(home) / flow_run
    if told:
        file.unlink(missing_ok=True)
    if held := _HELD.pop(file, None):
        held.close()


def remembered(file: Path) -> Ended | None:
    """How the flow run of the file ended, or None if its process was gone before it did."""
    try:
        return Ended.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def files(home: Path) -> Path:
    """The folder of the files, each named as its flow run's id."""
    return folder(home) / "flow_runs"
