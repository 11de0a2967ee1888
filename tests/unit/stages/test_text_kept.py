import json
from pathlib import Path

import pytest

from stages._text_kept import kept_facts
from stages.base import Refused

TOKENIZER = {"model": {"vocab": {"a": 0}}, "added_tokens": [], "post_processor": None}
SETTINGS = {"eos_token": {"content": "<end>"}, "bos_token": "<end>"}


def folder(path: Path, **changed: object) -> Path:
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(changed.get("tokenizer", TOKENIZER)))
    (path / "tokenizer_config.json").write_text(json.dumps(changed.get("settings", SETTINGS)))
    if changed.get("template", True):
        (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def test_the_facts_of_the_source_are_handed_on(tmp_path: Path) -> None:
    facts = kept_facts(folder(tmp_path / "a"), folder(tmp_path / "b"), {"parameters": 5, "precision": "float32"})

    assert facts.keys() == {"parameters", "tokenizer_sha256", "chat_template"}
    assert facts["chat_template"] is True


def test_defaults_written_down_beside_the_vocabulary_are_no_other_tokenizer(tmp_path: Path) -> None:
    saved = folder(tmp_path / "b", tokenizer={**TOKENIZER, "post_processor": {"type": "ByteLevel"}, "padding": 1})

    kept_facts(folder(tmp_path / "a"), saved, {})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokenizer": {**TOKENIZER, "model": {"vocab": {"b": 0}}}}, "another tokenizer"),
        ({"template": False}, "chat template was lost"),
        ({"settings": {"bos_token": "<end>"}}, "the eos_token was '<end>' in the source and is None"),
        ({"settings": {"eos_token": "<end>", "bos_token": "<start>"}}, "the bos_token was '<end>'"),
    ],
)
def test_what_was_lost_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(Refused, match=message):
        kept_facts(folder(tmp_path / "a"), folder(tmp_path / "b", **changed), {})
