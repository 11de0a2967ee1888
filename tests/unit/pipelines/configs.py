"""A right config, and what is said of it with a part changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.config import LoadedConfig
from pipelines.errors import ConfigErrors
from pipelines.parsing import parse
from pipelines.plan import Plan, check

RIGHT = """\
name: small
source: {path: model.gguf}
steps: [import_gguf, gguf, {quantize_gguf: {type: q4_k_m}}]
data:
  evaluation: {builtin: python-docs, split: evaluation}
"""
STEPS = "[import_gguf, gguf, {quantize_gguf: {type: q4_k_m}}]"
CALIBRATED = "  calibration: {builtin: python-docs, split: calibration}\n"
TASK = "evaluation: {tasks: {siqa: {data: {path: model.gguf, reader: multiple-choice}}}}\n"
DIGITS = """\
name: digits
source: {python: model.py:build}
steps: [train_classifier, export_onnx, onnxruntime]
data:
  evaluation: {digits: true}
  calibration: {held_out: 20}
  training: {held_out: 100}
"""


def changed(*pairs: tuple[str, str], more: str = "") -> str:
    text = RIGHT
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text + more


class Folder:
    """A folder with a config and what it names."""

    def __init__(self, folder: Path) -> None:
        self.path, self.config = folder, folder / "a.yaml"
        (folder / "model.gguf").write_text("a model")

    def parse(self, text: str = RIGHT, overrides: Sequence[str] = ()) -> LoadedConfig:
        self.config.write_text(text, encoding="utf-8")
        return parse(self.config, overrides)

    def plan(self, text: str = RIGHT, overrides: Sequence[str] = ()) -> Plan:
        return check(self.parse(text, overrides))

    def mistakes(self, text: str, overrides: Sequence[str] = ()) -> list[str]:
        """Every mistake of the text, the config's path shortened to its name."""
        with pytest.raises(ConfigErrors) as caught:
            self.plan(text, overrides)
        return [mistake.replace(str(self.config), "a.yaml") for mistake in caught.value.mistakes]
