"""A candidate with another tokenizer than the reference's is an error before anything of it is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dummies import Bench

from pipelines import same_tokens
from pipelines.errors import InputRejected
from pipelines.progress import Silent
from pipelines.same_tokens import check_tokens
from pipelines.store import Store
from stages.base import Artifact


def folder(path: Path, *tokens: str) -> Artifact:
    path.mkdir()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return Artifact(kind="hf", path=path, digest=path.name[0] * 64)


def test_another_tokenizer_is_told_and_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    reference, other = folder(tmp_path / "a", "x", "y"), folder(tmp_path / "b", "x", "z")

    for _ in range(2):
        with pytest.raises(InputRejected) as refused:
            check_tokens(reference, other, store, Silent())

    assert refused.value.message == (
        "its tokenizer is another than the reference's: token 1 is 'y' in the source and 'z' here; 1 of 2 differ"
    )
    assert list(store.ls()) == []


def test_the_same_tokenizer_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, looked = Store(tmp_path / "store"), []
    monkeypatch.setattr(same_tokens, "told_apart", lambda *given: looked.append(given))
    reference, same = folder(tmp_path / "a", "x"), folder(tmp_path / "b", "x", "filler")

    for _ in range(2):
        check_tokens(reference, same, store, Silent())
    check_tokens(reference, reference, store, Silent())

    assert len(looked) == 1


def test_the_run_ends_at_the_stage_whose_tokenizer_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_tokens, "told_apart", lambda *_: "token 7 is 'a' in the source and 'b' here")

    outcome = Bench(tmp_path).run("steps.dummy.noise=0.2")

    assert isinstance(outcome.error, InputRejected)
    assert outcome.error.exit_code == 2
    assert outcome.record.stages[-1].status == "failed"
    assert "token 7 is 'a'" in outcome.record.stages[-1].message
    assert outcome.record.bundle is None
