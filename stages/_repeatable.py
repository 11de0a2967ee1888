"""torch, told to compute the same bits each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stages.base import Refused

_MISSING = " does not have a deterministic implementation"


@contextmanager
def repeatable() -> Iterator[None]:
    """Within it, and after it, torch takes no algorithm that gives other sums another time.

    Raises:
        Refused: an operation has no other. Which they are differs by device
            (https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html).
    """
    import torch

    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        operation, missing, _ = str(error).partition(_MISSING)
        if not missing:
            raise
        raise Refused(
            f"this training cannot be repeated: torch has no deterministic `{operation}`",
            "on a GPU set `device: cpu`, where nearly all are; else build the module without it",
        ) from error
