"""What a config leaves unsaid, and its source, its data or its evaluation tell."""

from __future__ import annotations

from typing import Any

from pipelines.config import ENCODER_PARTS, IMAGE_PARTS, TEXT_PARTS
from pipelines.fields.data import IMAGE_READERS


def usual_reference(tree: dict[str, Any]) -> str:
    """The target that opens the unchanged model."""
    source = tree.get("source")
    built = isinstance(source, dict) and "python" in source
    return "pytorch" if built or _of_images(tree) or _of_embeddings(tree) else "transformers"


def leave_out(tree: dict[str, Any]) -> None:
    """What does not suit the data is not measured, unless the config asks for it: then the plan says why it cannot."""
    data, evaluation = tree.get("data"), tree.get("evaluation", {})
    if isinstance(data, dict) and isinstance(data.get("evaluation"), dict) and isinstance(evaluation, dict):
        own = IMAGE_PARTS if _of_images(tree) else ENCODER_PARTS if _of_embeddings(tree) else TEXT_PARTS
        parts = [part for part in (*TEXT_PARTS, *IMAGE_PARTS) if part not in own]
        tree["evaluation"] = {**dict.fromkeys(parts), **evaluation}


def _of_images(tree: dict[str, Any]) -> bool:
    data = tree.get("data")
    source = data.get("evaluation") if isinstance(data, dict) else None
    return isinstance(source, dict) and ("digits" in source or source.get("reader") in IMAGE_READERS)


def _of_embeddings(tree: dict[str, Any]) -> bool:
    evaluation = tree.get("evaluation")
    return isinstance(evaluation, dict) and evaluation.get("embeddings") is not None
