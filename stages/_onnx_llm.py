"""A language model for ONNX Runtime GenAI: model.onnx, its weights, genai_config.json and the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.base import Refused

KIND, MODEL, SETTINGS, TOKENIZER = "onnx_llm", "model.onnx", "genai_config.json", "tokenizer.json"


def genai_settings(folder: Path) -> dict[str, Any]:
    """What genai_config.json says of the model: `context_length`, `vocab_size`, ...

    Raises:
        Refused: it is missing or damaged, or the model lies not beside it.
    """
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{SETTINGS} cannot be read: {error}", "build the model again") from error
    if not (folder / MODEL).is_file():
        raise Refused(f"the model's folder holds no {MODEL}", "build the model again")
    return found
