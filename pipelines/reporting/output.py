"""Where tables go."""

from __future__ import annotations

import os
import sys

from rich.console import Console

WIDE = 120  # columns: fits every table that a run prints


def standard_output(wide: int = WIDE) -> Console:
    """As wide as the terminal, or as COLUMNS says; a log or a pipe says nothing, and rich would take 80 columns."""
    said = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console() if said else Console(width=wide)
