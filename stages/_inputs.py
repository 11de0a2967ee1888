"""What a model of arrays is fed with, whatever its inputs are called: labelled images, or texts as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages import _examples, _tokens

Rows = NDArray[np.int64]
Feed = dict[str, NDArray[np.generic]]


class Inputs(Protocol):
    """Rows on disk, read as they are asked for. `what` they are, in messages."""

    @property
    def what(self) -> str:
        """In the plural: images, texts."""
        ...

    def __len__(self) -> int: ...

    def feed(self, rows: Rows, names: Sequence[str]) -> Feed:
        """Those rows as a model takes them, by its input names; the first axis of each array is the batch.

        Raises:
            Refused: a name that nothing here fills.
        """
        ...


def load(folder: Path) -> Inputs:
    """The inputs of an artifact of kind `examples` or `tokens`; nothing pickled is accepted."""
    return _tokens.Tokens.load(folder) if (folder / _tokens.NAME).is_file() else _examples.Examples.load(folder)


def first(inputs: Inputs, count: int, names: Sequence[str]) -> Feed:
    """The first `count` rows."""
    return inputs.feed(np.arange(count), names)
