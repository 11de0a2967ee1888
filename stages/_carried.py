"""What goes with a model of arrays from stage to stage: its tokenizer's file, and the facts that its bundle needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import JsonValue

from stages._tokenizer import FILE
from stages.base import Artifact

FACTS = ("licence", "padding_id")


def carried(model: Artifact, out: Path) -> dict[str, JsonValue]:
    """Copy the tokenizer into the folder, where the model has one; the facts that the result inherits."""
    if (model.path / FILE).is_file():
        shutil.copyfile(model.path / FILE, out / FILE)
    return {key: model.facts[key] for key in FACTS if key in model.facts}
