"""A Llama of two layers with a sentencepiece vocabulary, made on the spot."""

import io
import json
from pathlib import Path

import torch
from sentencepiece import SentencePieceTrainer
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

TEXT = "the quick brown fox jumps over the lazy dog, and the dog looks at it. "
VOCABULARY, WIDTH, CONTEXT = 288, 64, 128


def make(folder: Path, **changed: int) -> Path:
    """Save the model with seeded random weights."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    config = LlamaConfig(**{**shape, **changed}, initializer_range=0.2)
    LlamaForCausalLM(config).save_pretrained(folder)
    return _with_tokenizer(folder)


def make_mamba(folder: Path) -> Path:
    """A recurrent model over the same vocabulary: its state cannot go back."""
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, time_step_rank=4, initializer_range=0.2
    )
    MambaForCausalLM(config).save_pretrained(folder)
    return _with_tokenizer(folder)


def _with_tokenizer(folder: Path) -> Path:
    (folder / "tokenizer.model").write_bytes(_vocabulary())
    config = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _vocabulary() -> bytes:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 4),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return model.getvalue()
