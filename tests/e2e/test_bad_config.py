"""Mistakes that are found before anything starts: one message each, exit 2, nothing made."""

from pathlib import Path
from typing import Any

import pytest
from program import Program, written

TINY_STEPS = ["gguf", {"quantize_gguf": {"type": "q8_0"}}]


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes a config about a model that is there."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")

    def write(source: str = "model.gguf", steps: list[Any] | None = None, **more: Any) -> Path:
        steps = steps or ["import_gguf", *TINY_STEPS]
        return written(tmp_path / "config.yaml", {"path": source}, steps, **more)

    return write


def refused(program: Program, config: Path, *arguments: str) -> str:
    """The message of a run that never starts."""
    ended = program.run(config, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert not (program.home / "store/keys").exists() or program.published() == []
    assert program.leftovers() == []
    assert not program.dist.exists()
    return ended.err.strip()


def test_unknown_stage_is_named_with_the_nearest_one(fresh: Program, config: Any) -> None:
    path = config(steps=["import_gguf", "gguf", {"quantise_gguf": {"type": "q8_0"}}])

    assert refused(fresh, path) == (
        f"{path}: step 3 `quantise_gguf`: no stage of that name\n\n"
        "hint: did you mean `quantize_gguf`?   (tapeout ls stages)"
    )


def test_unknown_field_is_named_with_the_nearest_one(fresh: Program, config: Any) -> None:
    path = config(steps=["import_gguf", {"gguf": {"out_type": "f16"}}])

    assert refused(fresh, path) == f"{path}: step 2 `gguf`: no field `out_type`\n\nhint: did you mean `outtype`?"


def test_every_mistake_is_told_at_once(fresh: Program, config: Any) -> None:
    path = config(steps=["import_guff", {"gguf": {"out_type": "f16"}}], budgets=[{"metric": "perplexty", "max": 3}])
    message = refused(fresh, path, "evaluation.perplexity.windows=many")

    for told in ("`import_guff`", "`out_type`", "`windows`"):
        assert told in message


def test_stages_whose_kinds_do_not_chain_are_bridged(fresh: Program, config: Any) -> None:
    path = config(steps=["gguf"])
    message = refused(fresh, path)

    assert f"{path}: step 1 `gguf`: takes hf, but the source gives gguf\n\nhint: put `import_gguf` before it" in message


def test_missing_model_file_is_named(fresh: Program, config: Any, tmp_path: Path) -> None:
    path = config(source="absent.gguf")

    assert refused(fresh, path) == (
        f"{path}: `source`: `path`: no such file or folder: absent.gguf\n\nhint: relative paths start at {tmp_path}"
    )


def test_calibrating_on_the_evaluation_text_is_refused(fresh: Program, config: Any) -> None:
    same = {"builtin": "python-docs", "split": "evaluation"}
    path = config(data={"evaluation": same, "calibration": same})

    assert refused(fresh, path) == (
        f"{path}: `data`: calibration and evaluation are the same text: the measurement would be worthless\n\n"
        "hint: give calibration the other half"
    )
