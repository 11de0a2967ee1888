"""Refuses a checkpoint of another architecture than the model that its config names."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.errors import SourceError, UserError
from pipelines.fetching import weights
from pipelines.fields.source import PathSource
from pipelines.planner.onnx_shapes import interface_of

SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "vocab_size", "image_size", "num_labels",
)  # fmt: skip


def check_architecture(own: LoadedConfig, with_checkpoint: LoadedConfig) -> None:
    """Compare the checkpoint with the config's own model, where both are on this machine and can be read.

    Of a Hugging Face folder: the architecture's name and sizes; of an ONNX file: its inputs and outputs. What is
    missing or damaged is for the fetch to refuse.

    Raises:
        SourceError: says every difference.
    """
    was, now = own.config.source, with_checkpoint.config.source
    if not (isinstance(was, PathSource) and isinstance(now, PathSource)):
        return
    ours, theirs = facts_of(own.folder / was.path.expanduser()), facts_of(own.folder / now.path.expanduser())
    if not ours or not theirs:
        return
    found = [
        f"{name} is {theirs.get(name, 'not there')}, not {ours.get(name, 'there')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if found:
        raise SourceError(
            f"{now.path}: another architecture than {was.path}, the config's model: {'; '.join(found)}",
            "give it a config of its own, or let `source:` name a model of the new architecture",
        )


def facts_of(path: Path) -> dict[str, str]:
    """What tells architectures apart, by name; nothing for what cannot be read, or is neither of the two."""
    try:
        model = weights.locate(path)
        kind = weights.kind_of(model)
        if kind == "onnx":
            return {"format": kind, **interface_of(model)}
        return {"format": kind} | (_hf_facts(model) if kind == "hf" else {})
    except (UserError, OSError, ValueError):
        return {}


def _hf_facts(folder: Path) -> dict[str, str]:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = (settings.get("architectures") or [settings.get("model_type", "?")])[0]
    return {"architecture": str(name)} | {size: str(settings[size]) for size in SIZES if size in settings}
