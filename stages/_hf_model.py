"""A Hugging Face folder as a torch module of arrays: an image classifier, or a text encoder with its pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages._copied import copy_files
from stages._pooling import Pool, pooling_of
from stages.base import Refused

CONFIG = "config.json"
CLASSIFIES, GENERATES = "ForImageClassification", ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


def load(folder: Path) -> Any:
    """The module in eval mode in float32, with eager attention: what exporters trace and fusions find.

    `forward(pixel_values)` gives `logits`; `forward(input_ids, attention_mask)` gives `sentence_embedding`.

    Raises:
        Refused: custom code, a language model, an architecture nobody knows, or weights that do not fit.
    """
    name = _architecture(folder)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForImageClassification

    classifies = name.endswith(CLASSIFIES)
    kind = AutoModelForImageClassification if classifies else AutoModel
    try:
        model, told = kind.from_pretrained(
            folder,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError) as error:
        what = " ".join(str(error).split())[:300]
        raise Refused(f"transformers cannot build {name}: {what}", "fetch the model again") from error
    _refuse_drawn(told, name)
    return (_classifier(model) if classifies else _encoder(model, folder, name)).eval()


def save(module: Any, source: Path, out: Path) -> None:
    """Write the weights and the config, and copy everything else that belongs to the model from `source`."""
    copy_files(source, out, ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.onnx", ".*"))
    module.model.save_pretrained(out)  # over the source's config: there are fewer layers
    for file in out.iterdir():
        if file.is_file():
            file.chmod(0o644)  # safetensors writes 0600


def is_encoder(folder: Path) -> bool:
    """Whether the folder is taken for a text encoder: whatever classifies no images."""
    return not _architecture(folder).endswith(CLASSIFIES)


def _architecture(folder: Path) -> str:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{CONFIG} cannot be read: {error}", "fetch the model again") from error
    name = str((config.get("architectures") or [config.get("model_type", "?")])[0])
    if "auto_map" in config:
        raise Refused(
            f"{name} needs code from its own folder, which is never executed",
            "use an architecture of transformers' own",
        )
    if name.endswith(GENERATES):
        raise Refused(
            f"{name} generates text: it is no encoder and no classifier of images",
            "`reference: transformers`, without `evaluation: embeddings:`, measures language models",
        )
    return name


def _refuse_drawn(told: Any, name: str) -> None:
    """Weights that the file lacks are drawn at random; the pooler, which is not used, may be."""
    missing = sorted(key for key in told["missing_keys"] if "pooler" not in key)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Refused(f"{name}: the weights lack `{missing[0]}`{more}", "fetch the model again")


def _classifier(model: Any) -> Any:
    import torch

    class Classifier(torch.nn.Module):  # type: ignore[misc]  # torch is not where mypy runs
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> dict[str, Any]:
            return {"logits": self.model(pixel_values=pixel_values).logits}

    return Classifier()


def _encoder(model: Any, folder: Path, name: str) -> Any:
    import torch

    if model.config.is_encoder_decoder or getattr(model.config, "is_decoder", False):
        raise Refused(f"{name} has a decoder, and an embedding is an encoder's", "give the encoder alone")
    if model.main_input_name != "input_ids":
        raise Refused(
            f"{name} takes {model.main_input_name}, not texts", "image classifiers and text encoders are read"
        )
    pooling = pooling_of(folder)

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
            states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return {"sentence_embedding": self.embedded(states, attention_mask)}

        def embedded(self, states: Any, attention_mask: Any) -> Any:
            pooled = _pooled(states, attention_mask.unsqueeze(-1).to(states.dtype), pooling.mode)
            return torch.nn.functional.normalize(pooled, dim=1) if pooling.normalize else pooled

    return Encoder()


def _pooled(states: Any, mask: Any, mode: Pool) -> Any:
    """One embedding a text out of states (texts, length, width), by a mask (texts, length, 1) of ones at tokens."""
    if mode == "cls":
        return states[:, 0]
    if mode == "max":
        return states.masked_fill(mask == 0, float("-inf")).max(dim=1).values
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
