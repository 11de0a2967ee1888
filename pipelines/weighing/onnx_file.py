"""The weights of an ONNX graph by their shapes: what external data hold is not read.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import mmap
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.weighing.protobuf import Value, fields, integers, text

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME = 1, 2, 8
_NODE_INPUT, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_BITS = {1: 32, 10: 16, 16: 16, 2: 8, 3: 8, 17: 8, 19: 8, 21: 4, 22: 4}
"""Bits by TensorProto.DataType: float32, float16, bfloat16, uint8, int8, two of float8, uint4, int4; others are no
weights."""
_TABLES = ("cos_cache", "sin_cache")
_PACKED = {"MatMulNBits": 4, "GatherBlockQuantized": 4}
"""Operators whose quantized input may hold more than one weight a byte, and their default bits."""
_QUANTIZED_INPUT = {"MatMulNBits": 1, "GatherBlockQuantized": 0, "DequantizeLinear": 0}


@dataclass
class _Graph:
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)


def of_onnx(folder: Path) -> tuple[int, float]:
    """Bits of every float and quantized initializer, and how many weights they stand for."""
    found = _Graph()
    for file in sorted(folder.glob("*.onnx")):
        with file.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _read(memoryview(bytes(data)), found)
    held = {name: size for name, size in found.bits.items() if name not in _TABLES}
    weights = sum(found.counts.get(name, math.prod(found.shapes[name])) for name in held)
    return sum(size * math.prod(found.shapes[name]) for name, size in held.items()), weights


def _read(model: memoryview, found: _Graph) -> None:
    for graph in _all(model)[_GRAPH]:
        parts = _all(_message(graph))
        for tensor in parts[_INITIALIZER]:
            _initializer(_all(_message(tensor)), found)
        for node in parts[_NODE]:
            _node(_all(_message(node)), found)


def _initializer(tensor: dict[int, list[Value]], found: _Graph) -> None:
    name, kind = text(tensor[_TENSOR_NAME][0]), tensor[_TENSOR_TYPE][0]
    if isinstance(kind, int) and kind in _BITS:
        found.shapes[name] = tuple(integers(tensor[_TENSOR_DIMS]))
        found.bits[name] = _BITS[kind]


def _node(node: dict[int, list[Value]], found: _Graph) -> None:
    """Note how many weights a packed input stands for, and that its scales and zero points stand for none."""
    kind = text(node[_NODE_TYPE][0]) if node[_NODE_TYPE] else ""
    if kind not in _QUANTIZED_INPUT:
        return
    names, at = [text(name) for name in node[_NODE_INPUT]], _QUANTIZED_INPUT[kind]
    data, companions = names[at], names[2 if at == 1 or kind == "GatherBlockQuantized" else 1 :]
    found.counts |= dict.fromkeys(companions, 0)
    if kind in _PACKED and data in found.shapes:
        given = dict(map(_integer, node[_NODE_ATTRIBUTE]))
        each = 8 / given.get("bits", _PACKED[kind]) if found.bits[data] == 8 else 1
        inner = math.prod(found.shapes[data]) * each
        found.counts[data] = min(inner, given.get("K", math.inf) * given.get("N", math.inf))


def _integer(attribute: Value) -> tuple[str, int]:
    parts = _all(_message(attribute))
    value = parts[_ATTRIBUTE_INT][0] if parts[_ATTRIBUTE_INT] else 0
    return text(parts[_ATTRIBUTE_NAME][0]), value if isinstance(value, int) else 0


def _all(message: memoryview) -> dict[int, list[Value]]:
    found: dict[int, list[Value]] = defaultdict(list)
    for number, value in fields(message):
        found[number].append(value)
    return found


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no ONNX model")
    return value
