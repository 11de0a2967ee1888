"""The weights of a Hugging Face folder: floats, or packed as GPTQ, AWQ and compressed-tensors pack them."""

from __future__ import annotations

from pathlib import Path

from stages._quantized import PARTS, quantization
from stages._safetensors_header import Stored, stored

_PACKED = frozenset({"qweight", "weight_packed"})
_WORD_BITS = 32


def of_checkpoint(folder: Path) -> tuple[int, float]:
    """Bits of every tensor, and how many weights they stand for."""
    how = quantization(folder)
    tensors = list(stored(folder))
    bits = 8 * sum(each.size for each in tensors)
    return bits, sum(_weights(each, how.bits if how else 0) for each in tensors)


def _weights(tensor: Stored, bits: int) -> float:
    part = PARTS.fullmatch(tensor.name) if bits else None
    if part is None:
        return tensor.elements
    return tensor.elements * _WORD_BITS / bits if part["part"] in _PACKED else 0
