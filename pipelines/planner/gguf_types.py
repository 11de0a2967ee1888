"""How large llama.cpp's mixtures of types come out: the type that its quantizer gives each tensor.

Source: src/llama-quant.cpp of llama.cpp, as packaged in llama-cpp-python 0.3.36; rows that are no multiple of 256
fall back to types in blocks of 32.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.planner.shapes import Decoder
from stages._gguf_header import TYPE_IDS, TYPES

SUPERBLOCK = 256
VOCABULARY_BYTES = 35  # of metadata a token: text, score, merges; 34.9 in SmolLM2's file, 35.2 in Llama 3's
LARGE_LAYERS = 80  # what llama.cpp takes for a 70B model
BASE = {
    "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q5_k_s": "Q5_K",
    "q5_1": "Q5_1", "q5_0": "Q5_0", "q4_k_m": "Q4_K", "q4_k_s": "Q4_K", "q4_1": "Q4_1", "q4_0": "Q4_0",
    "iq4_xs": "IQ4_XS", "iq4_nl": "IQ4_NL", "q3_k_l": "Q3_K", "q3_k_m": "Q3_K", "q3_k_s": "Q3_K", "q2_k": "Q2_K",
}  # fmt: skip
_WHOLE = ("f32", "f16", "bf16")
_FALLBACK = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip


def bits_of(kind: str) -> float:
    """Bits a weight of a GGUF tensor type, its scales included: 4.5 for Q4_K, 6.5625 for Q6_K."""
    _, weights, size = TYPES[TYPE_IDS[kind]]
    return 8 * size / weights


def more_bits(layer: int, layers: int) -> bool:
    """Whether Q4_K_M and Q5_K_M give this layer's attn_v and ffn_down six bits: i<n/8, i>=7n/8 or (i-n/8)%3=2."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def file_bytes(model: Decoder, file_type: str) -> float:
    """Size of the model's GGUF file of that type, vocabulary included."""
    return tensor_bytes(model, file_type) + VOCABULARY_BYTES * model.vocabulary


def tensor_bytes(model: Decoder, file_type: str) -> float:
    """Bytes of every tensor."""
    return linear_bytes(model, file_type) + head_bytes(model, file_type) + embedding_bytes(model, file_type)


def linear_bytes(model: Decoder, file_type: str) -> float:
    """Bytes of the layers, their float32 normalizations included."""
    return sum(weights * _bits(kind, row, file_type) / 8 for weights, row, kind in _layers(model, file_type)) + (
        4 * model.norms
    )


def head_bytes(model: Decoder, file_type: str) -> float:
    """Bytes of the output head, which a tied model has as its embedding."""
    kind = BASE[file_type] if file_type in (*_WHOLE, "q8_0") else "Q6_K"
    return model.head * _bits(kind, model.hidden, file_type) / 8


def embedding_bytes(model: Decoder, file_type: str) -> float:
    """Bytes of an embedding of its own; none in a tied model."""
    return 0.0 if model.tied else model.head * _bits(BASE[file_type], model.hidden, file_type) / 8


def _bits(kind: str, row: int, file_type: str) -> float:
    blocks = TYPES[TYPE_IDS[kind]][1]
    return bits_of(_FALLBACK.get(kind, kind) if row % blocks and file_type not in _WHOLE else kind)


def _layers(model: Decoder, file_type: str) -> Iterator[tuple[int, int, str]]:
    """Weights, row length and wanted type of each kind of tensor, layer by layer."""
    wide, narrow, base = model.heads * model.head_dim, model.kv_heads * model.head_dim, BASE[file_type]
    for layer in range(model.layers):
        yield model.hidden * (wide + narrow), model.hidden, base
        yield model.hidden * narrow, model.hidden, _value(model, file_type, layer)
        yield model.hidden * wide, wide, _output(file_type)
        yield 2 * model.experts * model.hidden * model.ffn, model.hidden, base
        yield model.experts * model.hidden * model.ffn, model.ffn, _down(model, file_type, layer)


def _value(model: Decoder, file_type: str, layer: int) -> str:
    kind = BASE[file_type]
    if file_type == "q2_k":
        kind = "Q4_K" if model.heads // model.kv_heads >= 4 else "Q3_K"
    elif file_type == "q3_k_m":
        kind = "Q5_K" if layer < 2 else "Q4_K"
    elif file_type == "q3_k_l" or (file_type == "q4_k_s" and layer < 4):
        kind = "Q5_K"
    elif file_type in {"q4_k_m", "q5_k_m"} and more_bits(layer, model.layers):
        kind = "Q6_K"
    return "Q5_K" if model.layers == LARGE_LAYERS and kind in {"Q3_K", "Q4_K"} else kind


def _output(file_type: str) -> str:
    return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(file_type, BASE[file_type])


def _down(model: Decoder, file_type: str, layer: int) -> str:
    if file_type == "q2_k":
        return "Q3_K"
    if file_type == "q3_k_m":
        return "Q5_K" if layer < model.layers // 16 else "Q4_K"
    if file_type == "q3_k_l" or (file_type == "q4_k_s" and layer < model.layers // 8):
        return "Q5_K"
    if file_type in {"q4_k_m", "q5_k_m"} and more_bits(layer, model.layers):
        return "Q6_K"
    return BASE[file_type]
