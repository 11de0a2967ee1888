"""A Hugging Face folder as transformers 4 reads it: what 5 writes, it would pass over without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def as_transformers_4(folder: Path, out: Path) -> Path:
    """A folder of links to the same weights, with a config and a tokenizer's config that transformers 4 understands.

    transformers 5 keeps `rope_theta` inside `rope_parameters`: 4 takes its own default of 10,000 in its stead, and the
    model it calibrates is another one. Its tokenizer class `TokenizersBackend` is unknown to 4.
    """
    out.mkdir(parents=True)
    for file in folder.iterdir():
        (out / file.name).symlink_to(file.resolve())
    _rewrite(out / "config.json", _config)
    _rewrite(out / "tokenizer_config.json", lambda told: {**told, "tokenizer_class": "PreTrainedTokenizerFast"})
    return out


def _config(told: dict[str, Any]) -> dict[str, Any]:
    told = dict(told)
    rope = dict(told.pop("rope_parameters", None) or {})
    if "rope_theta" in rope:
        told["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        told["rope_scaling"] = rope
    if "dtype" in told:
        told["torch_dtype"] = told.pop("dtype")
    return told


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if not file.exists():
        return
    told = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    file.write_text(json.dumps(change(told), indent=2), encoding="utf-8")
