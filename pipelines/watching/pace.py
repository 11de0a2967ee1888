"""How often a place far away is looked at."""

from __future__ import annotations

import time
from dataclasses import dataclass


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
