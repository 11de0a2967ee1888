"""What a Hugging Face folder must have before a tool may read it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue

from stages.base import Refused


def checked_config(folder: Path) -> dict[str, JsonValue]:
    """The folder's config.json, once its weights are known to be safetensors and to need no code of its own.

    Raises:
        Refused: no config, no architecture, pickled weights only, or custom code.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise Refused("there is no config.json: not a Hugging Face folder", "name the folder that holds config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"config.json is not JSON: {error}", "fetch the model again") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise Refused("config.json names no `architectures`", "fetch the model again")
    if "auto_map" in config:
        raise Refused(
            f"{architecture(config)} needs code from its own folder, which is never executed",
            "use a model whose architecture is part of transformers",
        )
    if not any(folder.glob("*.safetensors")):
        raise Refused("there are no .safetensors weights; pickled weights are never loaded", _save_hint(folder))
    return config


def architecture(config: dict[str, JsonValue]) -> str:
    """The first of the config's `architectures`, as transformers names it."""
    names = config["architectures"]
    return str(names[0]) if isinstance(names, list) else str(names)


def _save_hint(folder: Path) -> str:
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    return f"save {', '.join(pickled) or 'the weights'} as safetensors where you trust the file"
