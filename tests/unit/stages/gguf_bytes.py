"""GGUF files by hand, whole or with a header that lies."""

import struct

TENSORS = [("token_embd.weight", (32, 4)), ("blk.0.attn_norm.weight", (32,)), ("blk.0.ffn_down.weight", (64, 32))]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key: str, value: str | int | list[str]) -> bytes:
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))


METADATA: dict[str, str | int | list[str]] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
}


def gguf_bytes(
    changed: dict[str, str | int | list[str]] | None = None,
    shapes: dict[str, tuple[int, ...]] | None = None,
    offsets: dict[str, int] | None = None,
    types: dict[str, int] | None = None,
) -> bytes:
    """A GGUF of F32 tensors; `changed` metadata, `shapes`, `offsets` and `types` are what the header says instead."""
    metadata = {**METADATA, **(changed or {})}
    table, data = b"", b""
    for name, shape in TENSORS:
        said = (shapes or {}).get(name, shape)
        table += text(name) + struct.pack(f"<I{len(said)}Q", len(said), *said)
        table += struct.pack("<IQ", (types or {}).get(name, 0), (offsets or {}).get(name, len(data)))
        size = 4
        for length in shape:
            size *= length
        data += bytes(size)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(TENSORS), len(metadata))
    header += b"".join(entry(key, value) for key, value in metadata.items()) + table
    return header + bytes(-len(header) % 32) + data
