"""Tiny Hugging Face models with drawn weights: a BERT with its tokenizer and pooling, a ViT, a ResNet."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from stages._tokenizer import tokenized
from stages._tokens import Tokens
from stages.base import Artifact

WORDS = ("the", "a", "man", "woman", "eats", "drinks", "food", "water", "stock", "market", "fell", "rose", "today")
TEXTS = tuple(" ".join(np.random.default_rng(n).choice(WORDS, size=2 + n % 9)) for n in range(60))


def bert(folder: Path, hidden_layers: int = 2) -> Artifact:
    set_seed(0)
    folder.mkdir()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    config = BertConfig(
        vocab_size=len(WORDS) + len(special), hidden_size=32, num_hidden_layers=hidden_layers, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=24, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer(special).save(str(folder / "tokenizer.json"))
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return Artifact(kind="hf", path=folder, digest="0")


def tokenizer(special: tuple[str, ...]) -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate((*special, *WORDS))}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def tokens(folder: Path, model: Artifact) -> Artifact:
    """The texts as a `tokens` artifact."""
    folder.mkdir()
    made = tokenized(model.path, TEXTS, 12)
    Tokens(made.ids, made.mask, len(TEXTS), np.empty(0, dtype=np.int64)).save(folder)
    return Artifact(kind="tokens", path=folder, digest="0")


def vit(folder: Path) -> Artifact:
    set_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=12, patch_size=4,
        num_labels=5, initializer_range=0.2,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    return Artifact(kind="hf", path=folder, digest="0")


def resnet(folder: Path) -> Artifact:
    set_seed(0)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_labels=5,
        downsample_in_bottleneck=False,
    )
    model = ResNetForImageClassification(config)
    with torch.no_grad():
        model(pixel_values=torch.randn(32, 3, 12, 12))  # running statistics of its own
    model.save_pretrained(folder)
    return Artifact(kind="hf", path=folder, digest="0")
