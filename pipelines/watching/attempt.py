"""One attempt on a checkpoint: claimed, carried out, settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError
from pipelines.outcome import Outcome
from pipelines.watching.landed import Replaced
from pipelines.watching.ledger import Checkpoint, Ledger, State

Carry = Callable[[tuple[str, ...]], Outcome]


def attempt(ledger: Ledger, digest: str, carry_out: Carry) -> Outcome | None:
    """Carry the checkpoint through the config, given its overrides; None if another did so, or does so now.

    A budget halt settles it as a pass does, and so do other bytes in its place; a pass that the registry did not take
    does not. Like any other failure that leaves it for the next attempt; an interruption counts as none.

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
            _failed(ledger, known, error)
            raise
        if isinstance(outcome.error, Interrupted):
            ledger.update(digest, state="waiting", attempts=known.attempts - 1, reason=outcome.error.message)
        elif outcome.missing:
            ledger.failed(known, f"passed, but {outcome.missing}")
        elif outcome.error is None or isinstance(outcome.error, BudgetExceeded):
            state: State = "halted" if outcome.error else "passed"
            ledger.update(digest, state=state, reason=outcome.record.message)
        else:
            _failed(ledger, known, outcome.error)
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


def _failed(ledger: Ledger, known: Checkpoint, error: TapeoutError) -> None:
    if isinstance(error, Replaced):
        ledger.update(known.digest, state="replaced", reason=error.message)
    else:
        ledger.failed(known, error.message)
