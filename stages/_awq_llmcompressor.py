"""AWQ with llm-compressor, saved as compressed-tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages._awq import BITS, Made, Settings, refuse_shapes
from stages._causal_lm import load_lm
from stages._saved_tensors import saved


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Made:
    """The checkpoint, from windows of token ids of shape (n, length).

    Raises:
        Refused: a layer that the groups do not divide, NaN or infinity in a layer.
    """
    from datasets import Dataset
    from llmcompressor import oneshot

    model = load_lm(folder, settings.threads)
    refuse_shapes(model, settings)
    ones = [[1] * rows.shape[1]] * len(rows)
    if settings.device == "cpu":
        _pin_nothing()
    oneshot(
        model=model.to(settings.device),
        dataset=Dataset.from_dict({"input_ids": rows.tolist(), "attention_mask": ones}),
        recipe=_recipe(settings),
        num_calibration_samples=len(rows),
        max_seq_length=rows.shape[1],
        shuffle_calibration_samples=False,
        log_dir=str(scratch / "logs"),
    )
    model.save_pretrained(scratch / "saved", save_compressed=True)
    told = json.loads((scratch / "saved/config.json").read_text(encoding="utf-8"))["quantization_config"]
    return Made(tensors=saved(scratch / "saved"), told=told)


def _pin_nothing() -> None:
    """llm-compressor pins what it keeps for a device whether there is one or not, and torch refuses where none is."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_: None


def _recipe(settings: Settings) -> list[Any]:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    how = QuantizationArgs(
        num_bits=BITS,
        type="int",
        strategy="group",
        group_size=settings.group_size,
        symmetric=settings.symmetric,
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=how)
    return [AWQModifier(), QuantizationModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])]
