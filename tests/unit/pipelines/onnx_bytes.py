"""ONNX graphs by hand, as far as weights are counted: no onnx where the orchestrator runs."""

from __future__ import annotations

from collections.abc import Sequence


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    joined = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(joined)) + joined


def tensor(name: str, kind: int, *dims: int, packed: bool = False) -> bytes:
    shape = [message(1, *map(varint, dims))] if packed else [number(1, size) for size in dims]
    return message(5, *shape, number(2, kind), message(8, name.encode()))


def node(kind: str, inputs: Sequence[str], **attributes: int) -> bytes:
    told = [message(5, message(1, name.encode()), number(3, value)) for name, value in attributes.items()]
    return message(1, *(message(1, name.encode()) for name in inputs), message(4, kind.encode()), *told)


def model(*parts: bytes) -> bytes:
    return number(1, 10) + message(7, *parts)
