"""A conversion may lose no token, no special token's role and no chat template, whatever the formats are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gguf_bytes import gguf_bytes

from stages._vocabulary import difference, refuse_lost, vocabulary_of_folder, vocabulary_of_gguf
from stages.base import Refused

TOKENS = ["<end>", "a", "b", "ab"]


def folder(path: Path, tokens: list[str] = TOKENS, template: bool = True) -> Path:
    vocabulary = {token: number for number, token in enumerate(tokens) if token != "<end>"}
    added = [{"id": 0, "content": "<end>", "special": True}, {"id": 3, "content": "ab", "special": False}]
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}, "bos_token": None}))
    if template:
        (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def gguf(path: Path, tokens: list[str] = TOKENS, eos: int = 0, template: bool = True) -> Path:
    metadata: dict[str, str | int | list[str]] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": eos}
    if template:
        metadata["tokenizer.chat_template"] = "{{ messages }}"
    file = path / "model.gguf"
    file.write_bytes(gguf_bytes(metadata))
    return file


def test_a_gguf_with_every_token_of_its_folder_is_the_same_tokenizer(tmp_path: Path) -> None:
    theirs, ours = vocabulary_of_folder(folder(tmp_path)), vocabulary_of_gguf(gguf(tmp_path, [*TOKENS, "[PAD4]"]))

    assert theirs is not None
    assert ours is not None
    assert (theirs.special, theirs.template) == ({"eos_token": 0}, True)
    assert difference(theirs, ours) is None
    refuse_lost(theirs, ours)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (["<end>", "a", "c", "ab"], "token 2 is 'b' in the source and 'c' here; 1 of 4 differ"),
        (["<end>", "a"], "token 2 is 'b' in the source and missing here; 2 of 4 differ"),
    ],
)
def test_the_first_token_that_differs_is_named(tmp_path: Path, tokens: list[str], told: str) -> None:
    theirs, ours = vocabulary_of_folder(folder(tmp_path)), vocabulary_of_gguf(gguf(tmp_path, tokens))

    with pytest.raises(Refused) as refused:
        refuse_lost(theirs, ours)

    assert refused.value.message == f"the result has another tokenizer than the source: {told}"


def test_a_special_token_that_lost_its_role_is_named(tmp_path: Path) -> None:
    theirs, ours = vocabulary_of_folder(folder(tmp_path)), vocabulary_of_gguf(gguf(tmp_path, eos=2))

    with pytest.raises(Refused, match="the eos_token was '<end>' in the source and is 'b'"):
        refuse_lost(theirs, ours)
    assert ours is not None
    with pytest.raises(Refused, match="the eos_token was '<end>' in the source and is None"):
        refuse_lost(theirs, replace(ours, special={}))


def test_a_lost_chat_template_is_refused_and_one_that_never_was_is_not(tmp_path: Path) -> None:
    ours = vocabulary_of_gguf(gguf(tmp_path, template=False))

    with pytest.raises(Refused, match="the chat template was lost"):
        refuse_lost(vocabulary_of_folder(folder(tmp_path)), ours)
    (tmp_path / "chat_template.jinja").unlink()
    refuse_lost(vocabulary_of_folder(folder(tmp_path, template=False)), ours)


def test_unigram_vocabularies_are_lists_with_scores(tmp_path: Path) -> None:
    model = {"model": {"vocab": [["<unk>", 0.0], ["x", -1.0]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(model))

    found = vocabulary_of_folder(tmp_path)

    assert found is not None
    assert found.tokens == {0: "<unk>", 1: "x"}


def test_a_folder_without_a_tokenizer_is_not_compared(tmp_path: Path) -> None:
    assert vocabulary_of_folder(tmp_path) is None
    refuse_lost(None, vocabulary_of_gguf(gguf(tmp_path)))
