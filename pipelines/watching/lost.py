"""Announcements that no run answered: made again, ever more rarely, and not while a flow run waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.quantities import duration
from pipelines.watching.ledger import Checkpoint, Ledger, now
from pipelines.watching.pace import age_s

LOST_AFTER_S, RAREST_S = 120.0, 3600.0
"""An announcement that no run answered by then is made again; each further one has twice as long, up to an hour."""
TOLD_AFTER = 2


@dataclass
class Announced:
    """The announcements of one config's watch. `waits` asks whether a run will take a checkpoint up by itself."""

    ledger: Ledger
    config: Path
    waits: Callable[[Checkpoint], bool]
    say: Callable[[str], None]
    _unanswered: Counter[tuple[str, int]] = field(default_factory=Counter)

    def is_lost(self, checkpoint: Checkpoint) -> bool:
        """Whether it has to be announced again.

        Raises:
            UserError: it cannot be found out whether a run waits.
        """
        if not self._is_untaken(checkpoint) or age_s(checkpoint.announced) <= self._patience_s(checkpoint):
            return False
        if self.waits(checkpoint):
            self.ledger.update(checkpoint.digest, announced=now())
            return False
        fresh = self.ledger.get(checkpoint.digest)  # a run that just ended may have decided it
        if fresh is None or not self._is_untaken(fresh):
            return False
        self._unanswered[checkpoint.digest, checkpoint.attempts] += 1
        self._tell(checkpoint)
        return True

    def _is_untaken(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.state == "announced" and not self.ledger.is_claimed(checkpoint.digest)

    def _times(self, checkpoint: Checkpoint) -> int:
        return self._unanswered[checkpoint.digest, checkpoint.attempts]

    def _patience_s(self, checkpoint: Checkpoint) -> float:
        return min(LOST_AFTER_S * 2.0 ** min(self._times(checkpoint), 10), RAREST_S)

    def _tell(self, checkpoint: Checkpoint) -> None:
        if (times := self._times(checkpoint)) >= TOLD_AFTER:
            again = duration(self._patience_s(checkpoint))
            self.say(
                f"{checkpoint.name}: {times} events found no run that took it up; deploy its config anew: "
                f"tapeout deploy {self.config}   (the next event comes in {again})"
            )
