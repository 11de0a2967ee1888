"""One attempt on a checkpoint: claimed, carried out, settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.config import PipelineConfig
from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError
from pipelines.fields.source import PythonSource
from pipelines.outcome import Outcome
from pipelines.watching.ledger import Ledger, State

Carry = Callable[[tuple[str, ...]], Outcome]


def attempt(ledger: Ledger, digest: str, carry_out: Carry) -> Outcome | None:
    """Carry the checkpoint through the config, given its overrides; None if another did so, or does so now.

    A budget halt settles it as a pass does, but for a pass that the registry did not take: like any other failure that
    leaves it for the next attempt, which finds everything made. An interruption counts as none.

    Raises:
        TapeoutError: the run ended before it began, with a config that is wrong by now.
    """
    with ledger.claimed(digest) as known:
        if known is None:
            return None
        known = ledger.update(digest, state="running", attempts=known.attempts + 1)
        try:
            outcome = carry_out(known.overrides)
        except TapeoutError as error:
            ledger.failed(known, error.message)
            raise
        if isinstance(outcome.error, Interrupted):
            ledger.update(digest, state="waiting", attempts=known.attempts - 1, reason=outcome.error.message)
        elif outcome.missing:
            ledger.failed(known, f"passed, but {outcome.missing}")
        elif outcome.error is None or isinstance(outcome.error, BudgetExceeded):
            state: State = "halted" if outcome.error else "passed"
            ledger.update(digest, state=state, reason=outcome.record.message)
        else:
            ledger.failed(known, outcome.error.message)
        return outcome


@contextmanager
def beginning(digest: str, ledger_of: Callable[[], Ledger | None]) -> Iterator[None]:
    """What goes wrong in the block, before a run can take the open checkpoint in hand, counts as an attempt on it."""
    try:
        yield
    except TapeoutError as error:
        if ledger := ledger_of():
            with ledger.claimed(digest) as known:
                if known:
                    ledger.failed(ledger.update(digest, attempts=known.attempts + 1), error.message)
        raise


def overrides_for(config: PipelineConfig, checkpoint: Path) -> tuple[str, ...]:
    """What makes the checkpoint the config's source: the weights of a `python:` source, else the whole model."""
    place = f"path: {_quoted(str(checkpoint))}"
    if isinstance(config.source, PythonSource):
        return (f"source.weights={{{place}}}",)
    licence = f", licence: {_quoted(config.source.licence)}" if config.source.licence else ""
    return (f"source={{{place}{licence}}}",)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
