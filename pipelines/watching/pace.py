"""How often a place far away is looked at, and a checkpoint tried."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

PAUSES = (1, 5)
"""Before the second attempt and the third, times `retry_after_s`: a minute's outage sets no checkpoint aside."""


@dataclass
class Pace:
    """Lets a look through every so many seconds, by a clock that cannot be set; the first one at once."""

    every_s: float
    _looked: float | None = None

    def due(self) -> bool:
        """Whether it is time for a look, which then counts as taken."""
        now = time.monotonic()
        if self._looked is not None and now - self._looked < self.every_s:
            return False
        self._looked = now
        return True

    def hurry(self) -> None:
        """Let the next look come at once."""
        self._looked = None


def pause_left_s(attempts: int, failed: str, retry_after_s: float) -> float:
    """Seconds until the next attempt is due, after so many, of which the last failed then.

    A clock that is set makes a pause shorter, or at most twice as long.
    """
    if not attempts or not failed:
        return 0.0
    return max(0.0, retry_after_s * PAUSES[min(attempts, len(PAUSES)) - 1] - age_s(failed))


def age_s(moment: str) -> float:
    """Seconds since a moment in UTC, ISO 8601; until it, where a clock was set back since."""
    return abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
