"""A language model for ONNX Runtime GenAI: model.onnx, its weights, genai_config.json and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages._safetensors_header import Stored
from stages.base import Refused

BLOCK_SIZES = (16, 32, 64, 128, 256)
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


def refuse_odd_blocks(tensors: Iterable[Stored], block_size: int) -> None:
    """Refuse what the quantizer cannot pack: two zero points of 4 bits share a byte, so each row needs an even number.

    onnxruntime 1.32, `neural_compressor/weight_only.py`: `packed_zp` is reshaped to one row of bytes for each output.

    Raises:
        Refused: naming the first such layer, and the block sizes that fit all of them.
    """
    rows = {each.name: each.shape[1] for each in tensors if len(each.shape) == 2}
    odd = [name for name, row in sorted(rows.items()) if _blocks(row, block_size) % 2]
    if not odd:
        return
    fit = [size for size in BLOCK_SIZES if all(_blocks(row, size) % 2 == 0 for row in rows.values())]
    inputs, name = rows[odd[0]], odd[0]
    raise Refused(
        f"`block_size: {block_size}` cuts the {inputs} inputs of `{name}` into {_blocks(inputs, block_size)} blocks: "
        "zero points of 4 bits are packed in pairs, and that number is odd",
        (f"`block_size: {' or '.join(map(str, fit))}` divides every layer evenly; " if fit else "")
        + "`method: rtn` with `symmetric: true` has no zero points",
    )


def _blocks(row: int, block_size: int) -> int:
    return -(-row // block_size)
