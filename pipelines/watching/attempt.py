"""One attempt on a checkpoint: claimed, carried out, settled."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.errors import BudgetExceeded, Interrupted, TapeoutError
from pipelines.outcome import Outcome
from pipelines.watching.landed import Replaced
from pipelines.watching.ledger import Checkpoint, Ledger, State

Carry = Callable[[tuple[str, ...]], Outcome]


def attempt(ledger: Ledger, digest: str, carry_out: Carry) -> Outcome | None:
    """Carry the checkpoint through the config, given its overrides; None if another did so, or does so now.

    A budget halt settles it as a pass does, and so do other bytes in its place. Any other failure leaves it for the
    next attempt, an interruption counts as none.

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
        elif outcome.error is None or isinstance(outcome.error, BudgetExceeded):
            state: State = "halted" if outcome.error else "passed"
            ledger.update(digest, state=state, reason=outcome.record.message)
        else:
            _failed(ledger, known, outcome.error)
        return outcome


def _failed(ledger: Ledger, known: Checkpoint, error: TapeoutError) -> None:
    if isinstance(error, Replaced):
        ledger.update(known.digest, state="replaced", reason=error.message)
    else:
        ledger.failed(known, error.message)
