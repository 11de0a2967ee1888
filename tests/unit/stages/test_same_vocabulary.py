from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages._same_tokens import refuse_other_tokens
from stages.base import Refused


def folder(path: Path, tokens: list[str], width: int, added: dict[int, str] | None = None, **fields: Any) -> Path:
    path.mkdir()
    told = [{"id": number, "content": token, "special": False} for number, token in (added or {}).items()]
    model = {"vocab": {token: number for number, token in enumerate(tokens)}}
    (path / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": told, **fields}))
    (path / "config.json").write_text(json.dumps({"vocab_size": width}))
    return path


def test_the_same_tokens_written_otherwise_are_the_same(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", ["a", "b"], width=4, added={2: "<tool>"})
    converted = folder(tmp_path / "gguf", ["a", "b", "<tool>", "[PAD3]", "<|endoftext|>"], width=4, version="1.0")

    refuse_other_tokens(plain, converted)
    refuse_other_tokens(converted, plain)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (["a", "c", "b"], "token 1 is 'b' for the student and 'c' for the teacher; 2 of 3 differ"),
        (["a", "b"], "token 2 is 'c' for the student and none for the teacher; 1 of 3 differ"),
        (["a", "b", "c", "d"], "token 3 is none for the student and 'd' for the teacher; 1 of 4 differ"),
    ],
)
def test_the_first_token_that_is_another_is_named(tmp_path: Path, tokens: list[str], told: str) -> None:
    student = folder(tmp_path / "student", ["a", "b", "c"], width=3)
    with pytest.raises(Refused) as caught:
        refuse_other_tokens(student, folder(tmp_path / "teacher", tokens, width=len(tokens)))

    assert caught.value.message == f"student and teacher have different tokenizers: {told}"


def test_a_slow_tokenizer_tells_no_tokens(tmp_path: Path) -> None:
    student = folder(tmp_path / "student", ["a"], width=1)
    (tmp_path / "teacher").mkdir()
    with pytest.raises(Refused, match=r"the teacher has no tokenizer.json: what its tokens are cannot be told"):
        refuse_other_tokens(student, tmp_path / "teacher")
