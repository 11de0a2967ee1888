"""The headers of a folder's safetensors: names, types and shapes, without a weight being read.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from stages.base import Frozen, Refused

_LARGEST_HEADER = 100_000_000


class Stored(Frozen):
    """One tensor as a file holds it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


def stored(folder: Path) -> Iterator[Stored]:
    """Every tensor of the folder's safetensors, file by file.

    Raises:
        Refused: a file that is none.
    """
    for file in sorted(folder.glob("*.safetensors")):
        for name, told in _header(file).items():
            if name != "__metadata__":
                begin, end = told["data_offsets"]
                yield Stored(name=name, dtype=told["dtype"], shape=tuple(told["shape"]), size=end - begin)


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if not 0 < length <= min(_LARGEST_HEADER, file.stat().st_size - 8):
            raise Refused(f"{file.name} is no safetensors file", "fetch or make it again")
        found: dict[str, dict[str, list[int]]] = json.loads(content.read(length))
        return found
