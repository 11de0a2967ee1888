"""What a conversion of a language model must not lose: its tokenizer and its chat template."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import JsonValue

from stages.base import Refused

TOKENIZER, TEMPLATE, SETTINGS = "tokenizer.json", "chat_template.jinja", "tokenizer_config.json"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
INHERITED = ("architecture", "parameters", "layers", "vocabulary", "context_length", "licence", "source_types")


def kept_facts(source: Path, made: Path, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The facts of the source that hold for the result as well, once nothing was lost on the way.

    Raises:
        Refused: another tokenizer, no chat template, or another special token than in the source.
    """
    _refuse_another_tokenizer(source, made)
    if _template(source) and not _template(made):
        raise Refused("the chat template was lost in the conversion", "export it again from the source's own folder")
    ours, theirs = _settings(made), _settings(source)
    for name in _SPECIAL:
        if name in theirs and _content(ours.get(name)) != _content(theirs[name]):
            raise Refused(
                f"the {name} was {_content(theirs[name])!r} in the source and is {_content(ours.get(name))!r}",
                "a model that never sees its own end-of-text answers without end: export it again",
            )
    return {name: given[name] for name in INHERITED if name in given} | {
        "tokenizer_sha256": _sha256(made / TOKENIZER),
        "chat_template": _template(made),
    }


def _refuse_another_tokenizer(source: Path, made: Path) -> None:
    for folder, whose in ((source, "the source"), (made, "the result")):
        if not (folder / TOKENIZER).is_file():
            raise Refused(f"{whose} has no {TOKENIZER}", "take a model with a fast tokenizer")
    if _sha256(source / TOKENIZER) != _sha256(made / TOKENIZER) and _vocabulary(source) != _vocabulary(made):
        raise Refused(
            "the result has another tokenizer than the source: their perplexities could not be compared",
            "export it again from the source's own folder",
        )


def _vocabulary(folder: Path) -> object:
    """What decides the token ids of a text. Tools that save a tokenizer anew write down defaults beside it."""
    read = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    return [read.get(name) for name in ("normalizer", "pre_tokenizer", "model", "added_tokens")]


def _template(folder: Path) -> bool:
    return (folder / TEMPLATE).is_file() or bool(_settings(folder).get("chat_template"))


def _settings(folder: Path) -> dict[str, JsonValue]:
    file = folder / SETTINGS
    read: dict[str, JsonValue] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return read


def _content(token: JsonValue) -> JsonValue:
    return token.get("content") if isinstance(token, dict) else token


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
