"""ggml's own rounding of a matrix to a type, by ctypes: what a quantized file would hold, without writing one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._gguf_header import TYPE_IDS, TYPES

Floats = NDArray[np.float32]


def fits(kind: str, columns: int) -> bool:
    """Whether rows of that many weights can have the type: its blocks must divide them."""
    return columns % TYPES[TYPE_IDS[kind.upper()]][1] == 0


def size_of(kind: str, elements: int) -> int:
    """Bytes of so many weights in the type."""
    _, weights, size = TYPES[TYPE_IDS[kind.upper()]]
    return elements // weights * size


def rounded(matrix: Floats, kind: str, importance: Floats | None, threads: int) -> Floats:
    """The matrix of shape (rows, columns) as it is after quantizing to the type and back.

    `importance` weights the error of each column, shape (columns,); see `_imatrix`.
    """
    matrix, out = np.ascontiguousarray(matrix, dtype=np.float32), np.empty(matrix.shape, dtype=np.float32)
    if kind in _FLOATS:
        return _FLOATS[kind](matrix)
    rounding = _Rounding(kind, matrix.shape[1], importance)
    edges = np.linspace(0, len(matrix), min(threads, len(matrix)) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: rounding(matrix[part[0] : part[1]], out[part[0] : part[1]]), pairwise(edges)))
    return out


def _as_bf16(matrix: Floats) -> Floats:
    """To the nearest, ties to even, as ggml's `ggml_compute_fp32_to_bf16` does: the upper half of the 32 bits."""
    bits = matrix.view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return upper.view(np.float32)


_FLOATS: dict[str, Callable[[Floats], Floats]] = {
    "f32": np.copy,
    "f16": lambda matrix: matrix.astype(np.float16).astype(np.float32),
    "bf16": _as_bf16,
}


@dataclass(frozen=True)
class _Rounding:
    kind: str
    columns: int
    importance: Floats | None

    def __call__(self, rows: Floats, out: Floats) -> None:
        buffer = np.empty(size_of(self.kind, rows.size), dtype=np.uint8)
        weights = None if self.importance is None else _pointer(self.importance)
        arguments = (TYPE_IDS[self.kind.upper()], _pointer(rows), _pointer(buffer), 0, len(rows), self.columns, weights)
        _library().ggml_quantize_chunk(*arguments)
        _dequantizer(self.kind)(_pointer(buffer), _pointer(out), rows.size)


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@cache
def _library() -> Any:
    import llama_cpp

    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    pointer = ctypes.c_void_p
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, pointer, pointer),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, pointer),
    ]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


@cache
def _dequantizer(kind: str) -> Callable[[ctypes.c_void_p, ctypes.c_void_p, int], None]:
    name = kind if kind.startswith("iq") else kind.replace("_k", "_K")
    function: Any = getattr(_library(), f"dequantize_row_{name}")
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    return function  # type: ignore[no-any-return]
