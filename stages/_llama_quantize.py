"""llama.cpp's quantizer, called through llama_cpp's low-level API."""

from __future__ import annotations

import ctypes
import errno
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages._gguf_header import TYPE_IDS
from stages._gguf_types import FILE_TYPES, FileType, TensorType
from stages._llama_backends import load_backends
from stages._llama_log import llama_log
from stages.base import Context

_FALLBACKS = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_TENSOR = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")


@dataclass(frozen=True)
class Order:
    """What llama.cpp is asked for. `overrides` are regular expressions of tensor names with a type each, first wins;
    `importance` is an array of shape (columns,) by tensor name.
    """

    type: FileType
    pure: bool
    output_type: TensorType | None
    token_embedding_type: TensorType | None
    overrides: Mapping[str, TensorType]
    importance: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]


def quantized(source: Path, target: Path, order: Order, context: Context) -> int:
    """Write the quantized file; how many tensors got a larger type because their rows are no multiple of 256.

    Raises:
        RuntimeError: with llama.cpp's own reason.
        OSError: the disk is full.
    """
    import llama_cpp

    parameters, kept = _parameters(order, context.threads)
    said: list[str] = []
    load_backends()
    with llama_log(_progress(context, said)) as log:
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    del kept
    if failed:
        _refuse_full_disk(target)
        raise RuntimeError(f"llama.cpp could not quantize {source.name}: {log.last_error()}")
    found = _FALLBACKS.search("".join(said))
    return int(found[1]) if found else 0


def _parameters(order: Order, threads: int) -> tuple[Any, list[Any]]:
    """The parameters, and what has to live as long as they are used: they point into it."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype, parameters.pure = threads, FILE_TYPES[order.type], order.pure
    if order.output_type:
        parameters.output_tensor_type = TYPE_IDS[order.output_type.upper()]
    if order.token_embedding_type:
        parameters.token_embedding_type = TYPE_IDS[order.token_embedding_type.upper()]
    kept: list[Any] = [_overrides(order), _importance(order)]
    if order.overrides:
        parameters.tt_overrides = kept[0]
    if order.importance:
        parameters.imatrix = kept[1]
    return parameters, [*kept, order]


def _overrides(order: Order) -> Any:
    import llama_cpp

    override = llama_cpp.llama_model_tensor_override
    rows = [override(pattern.encode(), TYPE_IDS[kind.upper()]) for pattern, kind in order.overrides.items()]
    return (override * (len(rows) + 1))(*rows)  # a row of zeros ends the list


def _importance(order: Order) -> Any:
    import llama_cpp

    row = llama_cpp.llama_model_imatrix_data
    floats = ctypes.POINTER(ctypes.c_float)
    rows = [
        row(name.encode(), values.ctypes.data_as(floats), values.size)
        for name, values in sorted(order.importance.items())
    ]
    return (row * (len(rows) + 1))(*rows)


def _progress(context: Context, said: list[str]) -> Callable[[str], None]:
    def report(text: str) -> None:
        said.append(text)
        if match := _TENSOR.search(text):
            context.progress(int(match[1]), int(match[2]), match[3])

    return report


def _refuse_full_disk(target: Path) -> None:
    """llama.cpp says only that a stream failed."""
    if shutil.disk_usage(target.parent).free < 1 << 20:
        raise OSError(errno.ENOSPC, "no space left for the quantized model", str(target))
