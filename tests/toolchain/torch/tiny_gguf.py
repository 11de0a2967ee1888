"""A GGUF of a Llama of two layers with a byte-level vocabulary, written on the spot."""

from pathlib import Path

import gguf
import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH, HIDDEN, HEADS, LAYERS, CONTEXT = 64, 128, 4, 2, 128
MERGES = ["t h", "th e"]
TOKENS = ["<unk>", "<s>", "</s>", *bytes_to_unicode().values(), "th", "the"]
F32, Q8_0 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0


def tensors() -> dict[str, np.ndarray]:
    """Seeded weights under llama.cpp's names, matrices as (out, in)."""
    rng = np.random.default_rng(0)
    made = {"token_embd.weight": (len(TOKENS), WIDTH), "output.weight": (len(TOKENS), WIDTH)}
    for block in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            made[f"blk.{block}.{name}.weight"] = (WIDTH, WIDTH)
        made[f"blk.{block}.ffn_up.weight"] = made[f"blk.{block}.ffn_gate.weight"] = (HIDDEN, WIDTH)
        made[f"blk.{block}.ffn_down.weight"] = (WIDTH, HIDDEN)
    weights = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in made.items()}
    norms = ["output_norm.weight"]
    norms += [f"blk.{block}.{name}.weight" for block in range(LAYERS) for name in ("attn_norm", "ffn_norm")]
    return weights | {name: np.ones(WIDTH, dtype=np.float32) for name in norms}


def write(
    path: Path,
    weights: dict[str, np.ndarray],
    kind: gguf.GGMLQuantizationType = F32,
    architecture: str = "llama",
    hidden: int = HIDDEN,
    heads: int = HEADS,
) -> Path:
    """Write the file; matrices in `kind`, the rest in F32."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for name, weight in weights.items():
        quantized = weight.ndim == 2 and kind != F32
        data = gguf.quants.quantize(weight, kind) if quantized else weight
        writer.add_tensor(name, data, raw_dtype=kind if quantized else F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
