"""What decides the token ids of a language model, read off a Hugging Face folder or a GGUF, and where two differ."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages._gguf_header import read
from stages._text_kept import SETTINGS, TEMPLATE, TOKENIZER
from stages.base import Refused

_TOKENS = "tokenizer.ggml.tokens"
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Names in tokenizer_config.json, and in a GGUF's `tokenizer.ggml.*_token_id`."""


@dataclass(frozen=True)
class Vocabulary:
    """Token by id, the ids of the special tokens that have a role, and whether there is a chat template."""

    tokens: dict[int, str]
    special: dict[str, int] = field(default_factory=dict)
    template: bool = False


def vocabulary_of_folder(folder: Path) -> Vocabulary | None:
    """By tokenizer.json; None where there is none.

    Raises:
        Refused: it cannot be read.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        return None
    settings = _json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    tokens = _tokens(_json(file))
    ids = {token: number for number, token in tokens.items()}
    named = {name: _content(settings.get(name)) for name in _SPECIAL}
    special = {name: ids[token] for name, token in named.items() if token in ids}
    template = (folder / TEMPLATE).is_file() or bool(settings.get("chat_template"))
    return Vocabulary(tokens, special, template)


def vocabulary_of_gguf(file: Path) -> Vocabulary | None:
    """By the metadata; None where they hold no tokens."""
    header = read(file, (_TOKENS,))
    if _TOKENS not in header.texts:
        return None
    found = {name: header.metadata.get(f"tokenizer.ggml.{role}_token_id") for name, role in _SPECIAL.items()}
    special = {name: number for name, number in found.items() if isinstance(number, int)}
    return Vocabulary(dict(enumerate(header.texts[_TOKENS])), special, "tokenizer.chat_template" in header.metadata)


def difference(theirs: Vocabulary, ours: Vocabulary) -> str | None:
    """Where `ours` gives a token of theirs another id, or lacks it; None where it does not.

    Tokens that ours has beyond theirs are fillers up to the width of the embedding.
    """
    others = [number for number, token in theirs.tokens.items() if ours.tokens.get(number) != token]
    if not others:
        return None
    first = min(others)
    there = ours.tokens.get(first)
    instead = "missing" if there is None else repr(there)
    return (
        f"token {first:,} is {theirs.tokens[first]!r} in the source and {instead} here; "
        f"{len(others):,} of {len(theirs.tokens):,} differ"
    )


def refuse_lost(theirs: Vocabulary | None, ours: Vocabulary | None) -> None:
    """Refuse a conversion that lost a token, the role of a special token, or the chat template.

    Raises:
        Refused: naming it.
    """
    if theirs is None or ours is None:
        return
    again = "convert it again from the source's own folder; its tokenizer may be of a kind that the converter lacks"
    if told := difference(theirs, ours):
        raise Refused(f"the result has another tokenizer than the source: {told}", again)
    for name, number in theirs.special.items():
        if ours.special.get(name) != number:
            mine = ours.tokens.get(ours.special.get(name, -1))
            raise Refused(
                f"the {name} was {theirs.tokens[number]!r} in the source and is {mine!r}",
                "a model that never sees its own end-of-text answers without end: convert it again",
            )
    if theirs.template and not ours.template:
        raise Refused("the chat template was lost in the conversion", again)


def _tokens(read_: dict[str, Any]) -> dict[int, str]:
    """Those of the model, and the added ones that stand for themselves."""
    vocabulary = read_.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: token and score, by id
        tokens = {number: str(each[0]) for number, each in enumerate(vocabulary)}
    else:
        tokens = {number: token for token, number in vocabulary.items()}
    added = {each["id"]: each["content"] for each in read_.get("added_tokens", ()) if each.get("special")}
    return {**tokens, **added}


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _json(file: Path) -> dict[str, Any]:
    try:
        read_: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"{file.name} is damaged: {error}", "fetch or make the model again") from error
    return read_
