"""AWQ with llm-compressor, saved as compressed-tensors: scales of channels first, then the range of every group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages._awq import BITS, Made, Settings, losses_named, refuse_shapes
from stages._causal_lm import load_lm
from stages._saved_tensors import saved

PLAIN = {"observer": "memoryless_minmax"}
"""Ranges from the largest weight: what llm-compressor searches the scales with."""
CLIPPED = {"observer": "imatrix_mse", "observer_kwargs": {"norm": 2.0, "maxshrink": 0.5, "grid": 100, "patience": 100}}
"""Ranges of least squared error, each weight counted by the mean square of its input; from half of the largest up."""


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Made:
    """The checkpoint, from windows of token ids of shape (n, length).

    Two passes: the importance of an input is that of the scaled model, which the pass that scales has not seen.

    Raises:
        Refused: a layer that the groups do not divide, NaN or infinity in a layer.
    """
    model = scaled(folder, rows, settings, scratch)
    made = _passed(model, rows, [_rounding(settings, CLIPPED)], settings, scratch)
    made.save_pretrained(scratch / "saved", save_compressed=True)
    told = json.loads((scratch / "saved/config.json").read_text(encoding="utf-8"))["quantization_config"]
    return Made(tensors=saved(scratch / "saved"), told=told)


def scaled(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Any:
    """The model in floats, its channels scaled so that rounding costs least; what it computes is unchanged.

    Raises:
        Refused: a layer that the groups do not divide, NaN or infinity in a layer.
    """
    from llmcompressor.modifiers.transform.awq import AWQModifier

    model = load_lm(folder, settings.threads)
    refuse_shapes(model, settings)
    if settings.device == "cpu":
        _pin_nothing()
    recipe = [AWQModifier(duo_scaling="both"), _rounding(settings, PLAIN)]
    with losses_named(AWQModifier, model, lambda mapping, *_: mapping.balance_layers[0]):
        made = _passed(model, rows, recipe, settings, scratch)
    return _in_floats(made, load_lm(folder, settings.threads))


def _passed(model: Any, rows: Any, recipe: list[Any], settings: Settings, scratch: Path) -> Any:
    """The model after llm-compressor has carried out the recipe over the windows."""
    from datasets import Dataset
    from llmcompressor import oneshot

    ones = [[1] * rows.shape[1]] * len(rows)
    return oneshot(
        model=model.to(settings.device),
        dataset=Dataset.from_dict({"input_ids": rows.tolist(), "attention_mask": ones}),
        recipe=recipe,
        num_calibration_samples=len(rows),
        max_seq_length=rows.shape[1],
        shuffle_calibration_samples=False,
        log_dir=str(scratch / "logs"),
    )


def _in_floats(rounded: Any, fresh: Any) -> Any:
    """The fresh model with the scaled weights, which are floats still: what rounds them stands beside them."""
    weights = rounded.state_dict()
    fresh.load_state_dict({name: weights[name] for name in fresh.state_dict()})
    return fresh


def _pin_nothing() -> None:
    """llm-compressor pins what it keeps for a device whether there is one or not, and torch refuses where none is."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_: None


def _rounding(settings: Settings, ranges: dict[str, Any]) -> Any:
    """Round the decoder's Linear layers, with this observer of their ranges."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import QuantizationModifier

    how = QuantizationArgs(
        num_bits=BITS,
        type="int",
        strategy="group",
        group_size=settings.group_size,
        symmetric=settings.symmetric,
        **ranges,
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=how)
    return QuantizationModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])
