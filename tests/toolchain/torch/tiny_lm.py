"""A Llama of six layers with a byte-level tokenizer, text that it can learn, and stages run on it."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from stages._calibration_text import CalibrationText
from stages.base import Artifact, Context, Produced, Stage

TEXT = "the quick brown fox jumps over the lazy dog, and the dog looks at it. "
VOCABULARY, END, LAYERS = 300, "<end>", 6


def make(
    folder: Path, layers: int = LAYERS, hidden: int = 32, vocabulary: int = VOCABULARY, seed: int = 0, heads: int = 2
) -> Artifact:
    """Save the model with seeded random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.2,
        eos_token_id=0, bos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "bos_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return _artifact(folder, {"licence": "MIT", "parameters": sum(p.numel() for p in loaded(folder).parameters())})


def of_another_kind(folder: Path, config: type, model: type, **fields: Any) -> Artifact:
    """The model's files with seeded random weights of another architecture."""
    made = make(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    special = {"eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
    model(config(**sizes, **heads, **special, initializer_range=0.2, **fields)).save_pretrained(folder)
    return made


def loaded(folder: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trained(model: Artifact, steps: int = 40) -> Artifact:
    """The model once it knows the text, in place: a layer of it is then worth something."""
    torch.set_num_threads(1)  # several wait for one another longer than they compute, on a busy machine for minutes
    network, tokenizer = loaded(model.path), Tokenizer.from_file(str(model.path / "tokenizer.json"))
    ids = tokenizer.encode(TEXT * 8).ids
    rows = torch.tensor([ids[start : start + 32] for start in range(8)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        network(rows, labels=rows).loss.backward()
        optimizer.step()
    network.save_pretrained(model.path)
    return model


def without_effect(model: Artifact, *layers: int) -> Artifact:
    """The model with layers that add nothing to what they are given."""
    network = loaded(model.path)
    for index in layers:
        for linear in (network.model.layers[index].self_attn.o_proj, network.model.layers[index].mlp.down_proj):
            torch.nn.init.zeros_(linear.weight)
    network.save_pretrained(model.path)
    return model


def text(folder: Path, written: str = TEXT * 60) -> Artifact:
    folder.mkdir()
    CalibrationText(name="foxes", documents=(written,)).save(folder)
    return Artifact(kind="text", path=folder, digest="0")


def run(stage: Stage, model: Artifact, out: Path, seed: int = 0, **inputs: Artifact) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    for folder in (out, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=1, seed=seed, inputs=inputs))
    return _artifact(out, dict(produced.facts)), produced


def logits(model: Artifact) -> torch.Tensor:
    ids = Tokenizer.from_file(str(model.path / "tokenizer.json")).encode(TEXT).ids
    with torch.inference_mode():
        return loaded(model.path)(torch.tensor(ids[3:23])[None]).logits[0]


def _artifact(folder: Path, facts: dict) -> Artifact:
    return Artifact(kind="hf", path=folder, digest="0", facts=facts)
