"""Calibration text on disk, and the token windows that a stage cuts out of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._calibration import INPUT
from stages.base import Context, Frozen, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "text"
SEPARATOR = "\n\n"
_FILE = "calibration.json"


class CalibrationText(Frozen):
    """The documents of a config's `data: calibration:`, in their order."""

    name: str
    documents: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write the one file of a `text` artifact into an empty folder."""
        (folder / _FILE).write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CalibrationText:
        """Read what `save` wrote."""
        return cls.model_validate_json((folder / _FILE).read_text(encoding="utf-8"))


def required_text(context: Context, stage: str) -> CalibrationText:
    """The calibration text.

    Raises:
        Refused: the config names none, or names examples of another kind.
    """
    given = context.inputs.get(INPUT)
    if given is None:
        raise Refused(f"`{stage}` looks at real text, and there is none", "name `data: calibration:`")
    if given.kind != KIND:
        raise Refused(f"`{stage}` looks at text, and the calibration data are {given.kind}", "name a text")
    return CalibrationText.load(given.path)


def fast_tokenizer(folder: Path) -> Any:
    """From tokenizer.json, which every transformers reads alike, whatever class the folder's config names.

    Raises:
        Refused: there is none.
    """
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise Refused("the folder has no tokenizer.json", "save its tokenizer with `AutoTokenizer`")
    return PreTrainedTokenizerFast(tokenizer_file=str(file))


def windows(text: CalibrationText, tokenizer: Any, count: int, length: int, stage: str) -> NDArray[np.int64]:
    """Token ids of shape (n, length): windows spread evenly over the whole text, all of it where it has no more.

    Raises:
        Refused: the text fills no window.
    """
    import numpy as np

    ids = tokenizer(SEPARATOR.join(text.documents), add_special_tokens=False, verbose=False)["input_ids"]
    there = len(ids) // length
    if not there:
        raise Refused(
            f"`{stage}`: the calibration text ({text.name}) has {len(ids):,} tokens, less than one window of {length}",
            "give a longer text, or a smaller `window`",
        )
    if there < count:
        sys.stderr.write(f"warning: {text.name} has {len(ids):,} tokens: {there} windows, {count} asked for\n")
    rows: NDArray[np.int64] = np.asarray(ids[: there * length], dtype=np.int64).reshape(there, length)
    chosen: NDArray[np.int64] = rows[np.linspace(0, there - 1, min(count, there)).round().astype(int)]
    return chosen
