"""Whether two language models mean the same token by an id, as a student must that learns from a teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages._text_kept import TOKENIZER
from stages._vocabulary import vocabulary_of_folder
from stages.base import Refused

_CONFIG = "config.json"


def refuse_other_tokens(student: Path, teacher: Path) -> None:
    """Raise Refused where an id is one token for the student's folder and another, or none, for the teacher's.

    Neither count ids beyond a model's embedding, nor the fillers up to its width that llama.cpp writes (`[PAD32000]`),
    nor added tokens that are not special: converters write their spaces otherwise.
    """
    ours, theirs = _tokens(student, "student"), _tokens(teacher, "teacher")
    written = _added(student) | _added(teacher)
    others = [
        number
        for number in sorted((ours.keys() | theirs.keys()) - written)
        if ours.get(number) != theirs.get(number) and not _fills(number, ours, theirs)
    ]
    if not others:
        return
    first = others[0]
    mine, its = (repr(tokens[first]) if first in tokens else "none" for tokens in (ours, theirs))
    raise Refused(
        f"student and teacher have different tokenizers: token {first:,} is {mine} for the student and {its} for the "
        f"teacher; {len(others):,} of {max(len(ours), len(theirs)):,} differ",
        "take a teacher with the student's own vocabulary",
    )


def _tokens(folder: Path, whose: str) -> dict[int, str]:
    """Token by id, as far as the embedding goes."""
    found = vocabulary_of_folder(folder)
    if found is None:
        raise Refused(f"the {whose} has no {TOKENIZER}: what its tokens are cannot be told", "give it a fast tokenizer")
    width = _json(folder / _CONFIG).get("vocab_size")
    return {number: token for number, token in found.tokens.items() if not isinstance(width, int) or number < width}


def _fills(number: int, ours: dict[int, str], theirs: dict[int, str]) -> bool:
    """Whether one has a filler where the other has nothing."""
    return {ours.get(number), theirs.get(number)} == {None, f"[PAD{number}]"}


def _added(folder: Path) -> set[int]:
    return {each["id"] for each in _json(folder / TOKENIZER).get("added_tokens", ()) if not each.get("special")}


def _json(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return read
