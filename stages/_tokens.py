"""Texts as token ids on disk: what encoders are calibrated and measured on, tokenized once for every runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.base import Refused

NAME = "tokens.npz"
TEXT = IDS, MASK = "input_ids", "attention_mask"
"""Inputs that texts fill; of any length, as of any batch."""
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """`ids` (texts, length) padded at their ends, `mask` of the same shape with 1 where a token is.

    The first `documents` rows are documents, the others queries; `relevant` (queries,) numbers the document that
    answers each query. Both are 0 and empty where there is nothing to retrieve.
    """

    ids: Ids
    mask: Ids
    documents: int
    relevant: Ids

    what = "texts"

    def __len__(self) -> int:
        return len(self.ids)

    def feed(self, rows: Ids, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        """Those rows as int64 of shape (rows, longest of them), without the columns that would all be padding.

        Raises:
            Refused: the model takes something else than ids and a mask.
        """
        if unknown := [name for name in names if name not in TEXT]:
            raise Refused(
                f"the model takes {', '.join(names)}, and texts fill {IDS} and {MASK}, not {', '.join(unknown)}",
                "export it with these inputs alone",
            )
        longest = int(self.mask[rows].sum(axis=1).max())
        held = {IDS: self.ids, MASK: self.mask}
        return {name: np.ascontiguousarray(held[name][rows, :longest]) for name in names}

    def save(self, folder: Path) -> None:
        """Write the one file of a `tokens` artifact into an empty folder."""
        np.savez(folder / NAME, ids=self.ids, mask=self.mask, documents=self.documents, relevant=self.relevant)

    @classmethod
    def load(cls, folder: Path) -> Tokens:
        """Read what `save` wrote; nothing pickled is accepted."""
        with np.load(folder / NAME, allow_pickle=False) as held:
            return cls(held["ids"], held["mask"], int(held["documents"]), held["relevant"])
