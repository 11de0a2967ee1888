"""Weights of a few bits packed into 32-bit words, as GPTQ, AWQ and compressed-tensors checkpoints hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Words = NDArray[np.int32]
Floats = NDArray[np.float32]
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # AWQ's GEMM kernels interleave the eight values of a word
PLANES = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}
"""How GPTQModel's format `gptq_p` cuts a code that divides no word: widths, from the low bits up."""


def packed_rows(codes: Codes, bits: int) -> Words:
    """Codes of shape (n, m) as a stream of bits down each column, least significant first: (n * bits / 32, m)."""
    stream = (codes[:, None, :] >> np.arange(bits, dtype=np.uint8)[None, :, None]) & 1
    words = stream.reshape(-1, 32, codes.shape[1]).astype(np.uint32)
    summed: NDArray[np.uint32] = (words << np.arange(32, dtype=np.uint32)[None, :, None]).sum(1, dtype=np.uint32)
    return summed.view(np.int32)


def unpacked_rows(words: Words, bits: int) -> Codes:
    """What `packed_rows` packed."""
    stream = (words.view(np.uint32)[:, None, :] >> np.arange(32, dtype=np.uint32)[None, :, None]) & 1
    each = stream.reshape(-1, bits, words.shape[1]).astype(np.uint8)
    codes: Codes = (each << np.arange(bits, dtype=np.uint8)[None, :, None]).sum(1, dtype=np.uint8)
    return codes


def packed_columns(codes: Codes, bits: int) -> Words:
    """Codes of shape (n, m) as a stream of bits along each row: (n, m * bits / 32)."""
    return np.ascontiguousarray(packed_rows(np.ascontiguousarray(codes.T), bits).T)


def unpacked_columns(words: Words, bits: int) -> Codes:
    """What `packed_columns` packed."""
    return np.ascontiguousarray(unpacked_rows(np.ascontiguousarray(words.T), bits).T)


def planar_rows(codes: Codes, bits: int) -> Words:
    """Codes of shape (n, m), plane after plane for every 32 of a column: (n * bits / 32, m).

    GPTQModel 7.6, `utils/planar_packing.py`: no code reaches into a second word.
    """
    planes, offset = [], 0
    for width in PLANES.get(bits, (bits,)):
        plane = (codes >> offset) & (2**width - 1)
        planes.append(packed_rows(plane, width).reshape(-1, width, codes.shape[1]))
        offset += width
    return np.concatenate(planes, axis=1).reshape(-1, codes.shape[1])


def unpacked_planes(words: Words, bits: int) -> Codes:
    """What `planar_rows` packed."""
    blocks = words.reshape(-1, bits, words.shape[1])
    codes = np.zeros((32 * len(blocks), words.shape[1]), np.uint8)
    offset = 0
    for width in PLANES.get(bits, (bits,)):
        plane = np.ascontiguousarray(blocks[:, offset : offset + width]).reshape(-1, words.shape[1])
        codes |= unpacked_rows(plane, width) << offset
        offset += width
    return codes


def planar_columns(codes: Codes, bits: int) -> Words:
    """Codes of shape (n, m), plane after plane along each row: (n, m * bits / 32)."""
    return np.ascontiguousarray(planar_rows(np.ascontiguousarray(codes.T), bits).T)


def unpacked_plane_columns(words: Words, bits: int) -> Codes:
    """What `planar_columns` packed."""
    return np.ascontiguousarray(unpacked_planes(np.ascontiguousarray(words.T), bits).T)


def from_gptq(tensors: dict[str, Any], bits: int, zeros_less_one: bool, planar: bool = False) -> Floats:
    """A layer's weights, shape (outputs, inputs): (code - zero) * scale of the input's group.

    `tensors` holds qweight (inputs * bits / 32, outputs), qzeros (groups, outputs * bits / 32), scales (groups,
    outputs) and g_idx (inputs). The first format of the family stores each zero less one; `planar` is its third.
    """
    scales, group = tensors["scales"].astype(np.float32), tensors["g_idx"]
    rows, columns = (unpacked_planes, unpacked_plane_columns) if planar else (unpacked_rows, unpacked_columns)
    zeros = columns(tensors["qzeros"], bits)[:, : scales.shape[1]].astype(np.int32)
    zeros = (zeros + 1) & (2**bits - 1) if zeros_less_one else zeros
    codes = rows(tensors["qweight"], bits)[: len(group)].astype(np.float32)
    weights: Floats = (codes - zeros[group]) * scales[group]
    return np.ascontiguousarray(weights.T)


def from_awq(tensors: dict[str, Any], bits: int, group_size: int) -> Floats:
    """A layer's weights, shape (outputs, inputs), from AWQ's GEMM format.

    `tensors` holds qweight (inputs, outputs / 8), qzeros (groups, outputs / 8) and scales (groups, outputs).
    """
    scales = tensors["scales"].astype(np.float32)
    codes, zeros = (_in_order(unpacked_columns(tensors[name], bits)) for name in ("qweight", "qzeros"))
    group = np.arange(len(codes)) // (group_size if group_size > 0 else len(codes))
    weights: Floats = (codes.astype(np.float32) - zeros[group]) * scales[group]
    return np.ascontiguousarray(weights.T)


def _in_order(codes: Codes) -> Codes:
    return codes.reshape(len(codes), -1, 8)[:, :, _AWQ_ORDER].reshape(len(codes), -1)


def from_compressed(tensors: dict[str, Any], bits: int) -> Floats:
    """A layer's weights, shape (outputs, inputs), from compressed-tensors' pack-quantized format.

    `tensors` holds weight_packed (outputs, inputs * bits / 32), codes plus half the range; weight_scale (outputs,
    groups); weight_shape; and may hold weight_zero_point, packed down its columns, and weight_g_idx.
    """
    outputs, inputs = (int(size) for size in tensors["weight_shape"])
    scales = tensors["weight_scale"].astype(np.float32)
    half = 2 ** (bits - 1)
    codes = unpacked_columns(tensors["weight_packed"], bits)[:, :inputs].astype(np.float32) - half
    group = tensors.get("weight_g_idx", np.arange(inputs) // (inputs // scales.shape[1]))
    if "weight_zero_point" in tensors:
        zeros = unpacked_rows(tensors["weight_zero_point"], bits)[:outputs].astype(np.float32) - half
        codes -= zeros[:, group]
    weights: Floats = codes * scales[:, group]
    return weights
