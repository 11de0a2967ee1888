"""The header of a GGUF file, read without trusting it: every count is bounded by the file before it is used.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from stages.base import Refused

Scalar = int | float | bool | str

REFETCH = "fetch or convert the model again; its sha256 can be pinned in the config"
# ggml type -> name, weights a block, bytes a block. The tool environments' `gguf.GGML_QUANT_SIZES`, which a test
# compares; written down so that a header can be checked without a toolchain.
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
TYPE_IDS = {name: number for number, (name, _, _) in TYPES.items()}
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_SCALARS = {number: struct.Struct(form) for number, form in _FORMATS.items()}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_LEAST_ENTRY, _LEAST_TENSOR = 13, 32  # bytes: empty name and one-byte value; empty name and one dimension
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table. `shape` is in the file's order: the row length first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """How many weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF says of itself. `lengths` holds the length of every metadata array, `metadata` the rest.

    `texts` are the arrays of texts that were asked for.
    """

    metadata: dict[str, Scalar]
    lengths: dict[str, int]
    tensors: tuple[Tensor, ...]
    data_start: int
    data_size: int
    alignment: int
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string."""
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str) -> int | None:
        """An integer of the architecture's metadata, such as `block_count`; None when absent or not one integer."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) else None

    def types(self) -> dict[str, int]:
        """How many tensors there are of each type, the most frequent first."""
        return dict(Counter(tensor.type for tensor in self.tensors).most_common())

    def facts(self) -> dict[str, JsonValue]:
        """What an artifact's facts say of a GGUF; `tensor_types` counts tensors."""
        return {
            "architecture": self.architecture,
            "parameters": sum(tensor.elements for tensor in self.tensors),
            "layers": self.number("block_count"),
            "vocabulary": self.lengths.get("tokenizer.ggml.tokens"),
            "context_length": self.number("context_length"),
            "bits_per_weight": round(self.bits_per_weight(), 3),
            "tensor_types": dict(self.types()),
            "chat_template": "tokenizer.chat_template" in self.metadata,
        }

    def bits_per_weight(self) -> float:
        """Size of the tensors in bits over their number of weights."""
        return 8 * sum(t.size for t in self.tensors) / sum(t.elements for t in self.tensors)


def find(folder: Path) -> Path:
    """The one GGUF file of a folder.

    Raises:
        Refused: there is none, or more than one.
    """
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise Refused("there is no .gguf file in the artifact", "name the GGUF file itself in the config's `model:`")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise Refused(f"several GGUF files: {names}", "merge a split model with llama.cpp's llama-gguf-split --merge")
    return files[0]


def read(path: Path, texts: Collection[str] = ()) -> Header:
    """The header of the file, with these arrays of texts. Costs a pass over the metadata, never over the weights.

    Raises:
        Refused: this is no GGUF, or its header and its length contradict each other.
    """
    size = path.stat().st_size
    if size < 24:
        raise Refused(f"{path.name} is not a GGUF file: it has {size} bytes", REFETCH)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _header(_Cursor(data, path.name), texts)


class _Cursor:
    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.data, self.at, self.name = data, 0, name

    def refuse(self, message: str, hint: str = REFETCH) -> Refused:
        return Refused(f"{self.name}: {message}", hint)

    def need(self, size: int, what: str) -> None:
        """Refuse unless that many bytes are left."""
        left = len(self.data) - self.at
        if size > left:
            raise self.refuse(f"truncated, or its header lies: {what} needs {size:,} bytes and {left:,} are left")

    def take(self, form: struct.Struct, what: str) -> Scalar:
        self.need(form.size, what)
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value  # type: ignore[no-any-return]

    def count(self, form: struct.Struct, what: str, least: int) -> int:
        """A number of things of at least that many bytes each."""
        value = int(self.take(form, what))
        self.need(value * least, f"{what} = {value:,}")
        return value

    def text(self, what: str) -> str:
        size = self.count(_U64, f"the length of {what}", 1)
        raw = self.data[self.at : self.at + size]
        self.at += size
        return raw.decode("utf-8", "replace")

    def skip_texts(self, count: int, what: str) -> None:
        for _ in range(count):
            size = self.count(_U64, f"the length of a text in {what}", 1)
            self.at += size


def _header(cursor: _Cursor, texts: Collection[str]) -> Header:
    if cursor.data[:4] != b"GGUF":
        raise cursor.refuse(f"not a GGUF file: it starts with {cursor.data[:4]!r}")
    cursor.at = 4
    version = cursor.take(_U32, "the version")
    if version not in (2, 3):
        raise cursor.refuse(f"GGUF version {version} is not supported: 2 and 3 are, little-endian")
    tensors = cursor.count(_U64, "the number of tensors", _LEAST_TENSOR)
    entries = cursor.count(_U64, "the number of metadata entries", _LEAST_ENTRY)
    metadata: dict[str, Scalar] = {}
    lengths: dict[str, int] = {}
    kept: dict[str, tuple[str, ...]] = {}
    for index in range(entries):
        _entry(cursor, f"metadata entry {index + 1} of {entries}", metadata, lengths, (texts, kept))
    alignment = _alignment(cursor, metadata)
    table = tuple(_tensor(cursor, f"tensor {index + 1} of {tensors}") for index in range(tensors))
    start = -(-cursor.at // alignment) * alignment
    return Header(metadata, lengths, table, start, max(0, len(cursor.data) - start), alignment, kept)


def _entry(
    cursor: _Cursor,
    what: str,
    metadata: dict[str, Scalar],
    lengths: dict[str, int],
    texts: tuple[Collection[str], dict[str, tuple[str, ...]]],
) -> None:
    key = cursor.text(f"the name of {what}")
    if key in metadata or key in lengths:
        raise cursor.refuse(f"metadata `{key}` stands there twice")
    kind = int(cursor.take(_U32, f"the type of `{key}`"))
    if kind == _ARRAY:
        start, (asked, kept) = cursor.at, texts
        lengths[key] = _skip_array(cursor, key)
        if key in asked:
            kept[key] = _texts(cursor, start, key)
    elif kind == _STRING:
        metadata[key] = cursor.text(f"`{key}`")
    else:
        metadata[key] = cursor.take(_scalar(cursor, kind, key), f"`{key}`")


def _skip_array(cursor: _Cursor, key: str) -> int:
    kind = int(cursor.take(_U32, f"the type of `{key}`"))
    if kind == _STRING:
        count = cursor.count(_U64, f"the length of `{key}`", 8)
        cursor.skip_texts(count, f"`{key}`")
        return count
    form = _scalar(cursor, kind, key)
    count = cursor.count(_U64, f"the length of `{key}`", form.size)
    cursor.at += count * form.size
    return count


def _texts(cursor: _Cursor, start: int, key: str) -> tuple[str, ...]:
    """The texts of an array that was found whole; the cursor ends where it was."""
    end, cursor.at = cursor.at, start
    kind, count = int(cursor.take(_U32, key)), int(cursor.take(_U64, key))
    found = tuple(cursor.text(key) for _ in range(count)) if kind == _STRING else ()
    cursor.at = end
    return found


def _scalar(cursor: _Cursor, kind: int, key: str) -> struct.Struct:
    if kind not in _SCALARS:
        raise cursor.refuse(f"metadata `{key}` has the unknown type {kind}")
    return _SCALARS[kind]


def _alignment(cursor: _Cursor, metadata: dict[str, Scalar]) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or value <= 0 or value & (value - 1) or value > len(cursor.data):
        raise cursor.refuse(f"general.alignment is {value}, not a power of two within the file")
    return value


def _tensor(cursor: _Cursor, what: str) -> Tensor:
    name = cursor.text(f"the name of {what}")
    dimensions = int(cursor.take(_U32, f"the dimensions of tensor `{name}`"))
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise cursor.refuse(f"tensor `{name}` has {dimensions} dimensions; 1 to {_MOST_DIMENSIONS} are possible")
    shape = tuple(int(cursor.take(_U64, f"the shape of tensor `{name}`")) for _ in range(dimensions))
    kind = int(cursor.take(_U32, f"the type of tensor `{name}`"))
    offset = int(cursor.take(_U64, f"the offset of tensor `{name}`"))
    if kind not in TYPES:
        raise cursor.refuse(f"tensor `{name}` has the unknown type {kind}", "a newer llama.cpp may have written it")
    type_name, weights, size = TYPES[kind]
    if 0 in shape or shape[0] % weights:
        raise cursor.refuse(f"tensor `{name}` of type {type_name} has the impossible shape {list(shape)}")
    return Tensor(name, shape, type_name, offset, math.prod(shape) // weights * size)
