"""What a watch downloaded: `incoming/DIGEST/`, kept while a run may want it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.watching.ledger import Checkpoint

KEPT = 5
"""Of those that are decided, the latest: the config in a bundle names its checkpoint here."""


def prune(incoming: Path, checkpoints: Sequence[Checkpoint]) -> None:
    """Remove what was downloaded of decided checkpoints, but for the latest five; `checkpoints` in order of landing."""
    decided = [checkpoint.digest for checkpoint in checkpoints if not checkpoint.open]
    for digest in decided[:-KEPT]:
        shutil.rmtree(incoming / digest, ignore_errors=True)
