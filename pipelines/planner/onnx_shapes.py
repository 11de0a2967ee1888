"""Weights, operations and traffic of an ONNX file, read from its protobuf wire format: no toolchain, no values.

Fields of onnx.proto3: ModelProto.graph=7; GraphProto.node=1, initializer=5, input=11, output=12, value_info=13;
TensorProto.dims=1, name=8; NodeProto.input=1, output=2, op_type=4; ValueInfoProto.name=1, type=2.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import UserError
from pipelines.planner.shapes import Encoder

Field = tuple[int, int, memoryview | int]
_CONVOLUTIONS = ("Conv", "QLinearConv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm")


def encoder_of(path: Path) -> Encoder:
    """One example's operations: 2·weights of each product, times the places that a convolution is applied at.

    Raises:
        UserError: no ONNX file, or one whose convolutions have no output shapes in it.
    """
    try:
        return _encoder(path, _mapped(path))
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: no ONNX file: {error}", "shapes by hand: --model weights=...,flops=...") from error


def interface_of(path: Path) -> dict[str, str]:
    """The shape of each input and output, `?` where it is not fixed, by `input NAME` and `output NAME`.

    Raises:
        ValueError: no ONNX file.
    """
    graphs = [value for number, _, value in _fields(_mapped(path)) if number == 7 and isinstance(value, memoryview)]
    found: dict[str, str] = {}
    for graph in graphs:
        held = {_tensor(value)[0] for value in _messages(graph, 5)}
        for number, role in ((11, "input"), (12, "output")):
            for name, dims in (_value(value) for value in _messages(graph, number)):
                if name not in held:  # older exporters list weights among the inputs
                    found[f"{role} `{name}`"] = "x".join(str(size or "?") for size in dims) or "a scalar"
    return found


def _mapped(path: Path) -> memoryview:
    """The file's bytes, none of which is in memory until it is looked at; unmapped when nothing looks any more."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _encoder(path: Path, data: memoryview) -> Encoder:
    graph = next((value for number, _, value in _fields(data) if number == 7 and isinstance(value, memoryview)), None)
    if graph is None:
        raise ValueError("it holds no graph")
    weights: dict[str, list[int]] = {}
    shapes: dict[str, list[int]] = {}
    nodes: list[tuple[str, list[str], list[str]]] = []
    for number, _, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 5:
            name, dims = _tensor(value)
            weights[name] = dims
        elif number in {11, 12, 13}:
            name, dims = _value(value)
            shapes[name] = dims
        elif number == 1:
            nodes.append(_node(value))
    if not nodes:
        raise ValueError("it holds no operator")
    flops = sum(_flops(path, node, weights, shapes) for node in nodes)
    return Encoder(
        name=path.stem,
        weights=max(1, sum(math.prod(dims) for dims in weights.values())),
        flops=max(1.0, flops),
        activations=sum(math.prod(shapes[name][1:]) for _, _, made in nodes for name in made if shapes.get(name)),
        kernels=len(nodes),
    )


def _flops(
    path: Path, node: tuple[str, list[str], list[str]], weights: dict[str, list[int]], shapes: dict[str, list[int]]
) -> float:
    operator, taken, made = node
    sizes = [math.prod(weights[name]) for name in taken if name in weights and len(weights[name]) > 1]
    if not sizes or operator not in (*_CONVOLUTIONS, *_PRODUCTS):
        return 0.0
    shape = shapes.get(made[0], [])
    if operator in _CONVOLUTIONS:
        if len(shape) < 3 or 0 in shape[2:]:
            raise UserError(
                f"{path}: the output of {operator} `{made[0]}` has no shape in the file",
                "run ONNX shape inference and save it, or give --model weights=...,flops=...",
            )
        return 2.0 * sizes[0] * math.prod(shape[2:])
    rows = math.prod(shape[1:-1]) if len(shape) > 2 and 0 not in shape[1:-1] else 1
    return 2.0 * sizes[0] * rows


def _fields(data: memoryview) -> Iterator[Field]:
    """Number, wire type and value of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
        elif wire in {1, 5}:
            width = 8 if wire == 1 else 4
            yield number, wire, data[at : at + width]
            at += width
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("truncated")
            yield number, wire, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _tensor(data: memoryview) -> tuple[str, list[int]]:
    name, dims = "", []
    for number, wire, value in _fields(data):
        if number == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == 8 and wire == 2 and isinstance(value, memoryview):
            name = _text(value)
    return name, dims


def _packed(data: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _node(data: memoryview) -> tuple[str, list[str], list[str]]:
    operator, taken, made = "", [], []
    for number, _, value in _fields(data):
        if isinstance(value, memoryview):
            if number == 1:
                taken.append(_text(value))
            elif number == 2:
                made.append(_text(value))
            elif number == 4:
                operator = _text(value)
    return operator, taken, made


def _value(data: memoryview) -> tuple[str, list[int]]:
    """A value's name and dimensions; an unknown one is 0, and the batch is left as it is."""
    name, dims = "", []
    for number, _, value in _fields(data):
        if number == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            dims = _dims(value)
    return name, dims


def _dims(kind: memoryview) -> list[int]:
    """TypeProto.tensor_type=1 -> shape=2 -> dim=1 -> dim_value=1."""
    found = []
    for tensor in _messages(kind, 1):
        for shape in _messages(tensor, 2):
            for dim in _messages(shape, 1):
                known = [value for number, _, value in _fields(dim) if number == 1 and isinstance(value, int)]
                found.append(known[0] if known else 0)
    return found


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, _, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value
