"""Whether a GGUF's tensors can be what its header says: where they lie, and how their shapes fit the metadata."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from stages._gguf_header import REFETCH, Header, Tensor, read
from stages.base import Refused

_BLOCK = re.compile(r"blk\.(\d+)\.")


def checked(path: Path) -> Header:
    """The header of a GGUF whose tensors all lie inside the file, side by side, with shapes that fit the metadata.

    Raises:
        Refused: naming the tensor.
    """
    header = read(path)
    for problem in chain(_layout(header), _shapes(header)):
        raise Refused(f"{path.name}: {problem}", REFETCH)
    return header


def _layout(header: Header) -> Iterator[str]:
    if not header.tensors:
        yield "it holds no tensors"
    for name, count in Counter(tensor.name for tensor in header.tensors).most_common(1):
        if count > 1:
            yield f"tensor `{name}` stands there {count} times"
    end, previous = 0, "the start of the data"
    for tensor in sorted(header.tensors, key=lambda t: (t.offset, t.size)):
        expected = -(-end // header.alignment) * header.alignment
        if tensor.offset < expected:
            yield f"tensor `{tensor.name}` overlaps {previous}: offset {tensor.offset:,}, free from {expected:,}"
        if tensor.offset > expected:
            gap = f"{tensor.offset - expected:,} bytes lie between them"
            yield f"tensor `{tensor.name}` or {previous} has a wrong shape, type or offset: {gap}"
        if tensor.offset + tensor.size > header.data_size:
            yield _beyond(tensor, header)
        end, previous = tensor.offset + tensor.size, f"tensor `{tensor.name}`"
    if (rest := header.data_size - end) > header.alignment:
        yield f"{rest:,} bytes follow {previous}, the last: its shape or the number of tensors is wrong"


def _beyond(tensor: Tensor, header: Header) -> str:
    end = tensor.offset + tensor.size
    return (
        f"truncated, or its header lies: tensor `{tensor.name}` of shape {list(tensor.shape)} and type {tensor.type} "
        f"ends at byte {header.data_start + end:,} of a file of {header.data_start + header.data_size:,}"
    )


def _shapes(header: Header) -> Iterator[str]:
    tensors = {tensor.name: tensor for tensor in header.tensors}
    if not header.architecture:
        yield "the metadata has no general.architecture"
    blocks = {int(match[1]) for name in tensors if (match := _BLOCK.match(name))}
    if (count := header.number("block_count")) is not None and count != max(blocks, default=-1) + 1:
        yield f"the metadata says {count:,} layers, the tensors are of {max(blocks, default=-1) + 1}"
    for name, axis, key, size in _expected(header):
        if name in tensors and size is not None and (*tensors[name].shape, 0, 0)[axis] != size:
            yield f"tensor `{name}` has shape {list(tensors[name].shape)}, but the metadata says {key} = {size:,}"


def _expected(header: Header) -> Iterator[tuple[str, int, str, int | None]]:
    """Tensor, axis, and the metadata that says its length; true of every architecture of llama.cpp that has both."""
    width = header.number("embedding_length")
    yield "token_embd.weight", 0, "embedding_length", width
    yield "token_embd.weight", 1, "the vocabulary", header.lengths.get("tokenizer.ggml.tokens")
    yield "output_norm.weight", 0, "embedding_length", width
    for block in range(header.number("block_count") or 0):
        yield f"blk.{block}.attn_norm.weight", 0, "embedding_length", width
        yield f"blk.{block}.ffn_norm.weight", 0, "embedding_length", width
        yield f"blk.{block}.ffn_up.weight", 0, "embedding_length", width
        yield f"blk.{block}.ffn_down.weight", 0, "feed_forward_length", header.number("feed_forward_length")
        yield f"blk.{block}.ffn_down.weight", 1, "embedding_length", width
        yield f"blk.{block}.attn_q.weight", 0, "embedding_length", width
