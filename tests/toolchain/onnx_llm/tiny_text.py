"""A Llama of two layers with a byte-level tokenizer, and stages run on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from stages._calibration_text import CalibrationText
from stages.base import Artifact, Context, Produced, Stage

TEXT = "the quick brown fox jumps over the lazy dog, and the dog looks at it. "
VOCABULARY, CONTEXT, END = 320, 128, "<end>"


def make(folder: Path, template: bool = True, width: int = 64) -> Artifact:
    """Save the model with seeded random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.2, eos_token_id=0, bos_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "bos_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template:
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return Artifact(kind="hf", path=folder, digest="0", facts={"parameters": 1, "licence": "MIT"})


def run(stage: Stage, model: Artifact, out: Path, **inputs: Artifact) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    for folder in (out, scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=2, inputs=inputs))
    return Artifact(kind=stage.produces, path=out, digest="0", facts=produced.facts), produced


def calibration(folder: Path, text: str = TEXT * 40) -> Artifact:
    folder.mkdir()
    CalibrationText(name="foxes", documents=(text,)).save(folder)
    return Artifact(kind="text", path=folder, digest="0")


def by_transformers(model: Artifact, tokens: np.ndarray) -> np.ndarray:
    """Logits of the Hugging Face folder itself, shape (n, vocabulary)."""
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    with torch.inference_mode():
        return loaded(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()


def greedy(model: Artifact, prompt: np.ndarray, n: int) -> tuple[int, ...]:
    """What greedy decoding of the Hugging Face folder gives, each token from the whole sequence anew."""
    tokens = prompt
    for _ in range(n):
        tokens = np.append(tokens, by_transformers(model, tokens)[-1].argmax()).astype(np.int32)
    return tuple(tokens[len(prompt) :].tolist())
