"""A protobuf message as its bytes lie, for the few fields of ONNX that are looked at; the orchestrator has no onnx.

Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | memoryview
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: integers, or the bytes of texts, messages and packed lists.

    Raises:
        ValueError: this is no protobuf message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        size, at = (_SIZES[kind], at) if kind in _SIZES else _varint(message, at)
        if kind not in (*_SIZES, _BYTES) or at + size > len(message):
            raise ValueError("no protobuf message, or a truncated one")
        yield tag >> 3, message[at : at + size]
        at += size


def integers(values: list[Value]) -> list[int]:
    """A repeated integer field, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return found


def text(value: Value) -> str:
    """A text field."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


_SIZES = {_EIGHT: struct.calcsize("<q"), _FOUR: struct.calcsize("<i")}


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise ValueError("no protobuf message, or a truncated one")
