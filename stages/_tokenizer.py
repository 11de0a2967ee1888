"""An encoder's own tokenizer: texts to token ids with its special tokens, cut where they are too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.base import Refused

FILE = "tokenizer.json"
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Tokenized:
    """`ids` and `mask` of shape (texts, longest), padded at their ends; `cut` of the texts were longer."""

    ids: Ids
    mask: Ids
    cut: int


def tokenized(folder: Path, texts: Sequence[str], length: int) -> Tokenized:
    """The texts by the folder's tokenizer.json, special tokens included, cut at `length` tokens.

    Raises:
        Refused: no tokenizer.json, a damaged one, or a length that the model has no positions for.
    """
    _refuse_too_long(folder, length)
    tokenizer, pad = _tokenizer(folder), padding_id(folder)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    found = tokenizer.encode_batch(list(texts))
    longest = max(len(each.ids) for each in found)
    ids = np.full((len(found), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, each in enumerate(found):
        ids[row, : len(each.ids)], mask[row, : len(each.ids)] = each.ids, 1
    return Tokenized(ids, mask, sum(bool(each.overflowing) for each in found))


def padding_id(folder: Path) -> int:
    """The id that fills up shorter texts: some encoders count positions by it."""
    config = _settings(folder / "config.json").get("pad_token_id")
    if isinstance(config, int):
        return config
    token = _settings(folder / "tokenizer_config.json").get("pad_token")
    named = token.get("content") if isinstance(token, dict) else token
    return int(_tokenizer(folder).token_to_id(str(named)) or 0)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    if not (folder / FILE).is_file():
        raise Refused(
            f"the model's folder has no {FILE}, so that texts cannot become token ids",
            "save the tokenizer beside the model: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)",
        )
    if not _settings(folder / FILE):
        raise Refused(f"{FILE} is damaged: it holds no JSON object", "fetch the model again")
    return Tokenizer.from_file(str(folder / FILE))


def _refuse_too_long(folder: Path, length: int) -> None:
    settings = _settings(folder / "config.json")
    positions = settings.get("max_position_embeddings")
    if not isinstance(positions, int):
        return
    kept = settings.get("pad_token_id") if settings.get("model_type") in _POSITIONS_AFTER_PADDING else None
    most = positions - (kept + 1 if isinstance(kept, int) else 0)
    if length > most:
        raise Refused(
            f"`evaluation: embeddings: length:` is {length}, and the model has {most} positions", f"lower it to {most}"
        )


_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")
"""Architectures whose first position is the padding's id plus one."""


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
