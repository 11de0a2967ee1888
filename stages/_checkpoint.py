"""A quantized checkpoint on disk: tensors, the source's config with how it is quantized, the source's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages._quantized import bits_a_weight, quantization

KEPT = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
    "generation_config.json",
    "LICENSE*",
)


def write_checkpoint(source: Path, out: Path, tensors: dict[str, Any], told: dict[str, JsonValue]) -> None:
    """Write model.safetensors in the order of names, config.json with `told` as its quantization, the tokenizer."""
    from safetensors.torch import save_file

    save_file(dict(sorted(tensors.items())), out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"dtype": "float16", "quantization_config": told}
    config.pop("torch_dtype", None)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in sorted({file for pattern in KEPT for file in source.glob(pattern) if file.is_file()}):
        shutil.copyfile(file, out / file.name)


def quantized_facts(out: Path, method: str) -> dict[str, JsonValue]:
    """Method, bits, group size, and bits a weight as counted in the files."""
    how = quantization(out)
    assert how is not None
    return {
        "quantization": method,
        "precision": f"int{how.bits}",
        "group_size": how.group_size,
        "bits_a_weight": round(bits_a_weight(out, how), 4),
    }
