"""Hugging Face folder + calibration text -> an AWQ checkpoint, with GPTQModel."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._checkpoint import quantized_facts, write_checkpoint
from stages._quantized import refuse_quantized
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of

CLIPPED_TOGETHER = 64  # GPTQModel searches clipping for so many outputs at a time


class QuantizeAwq(Stage):
    """Scale channels by their activations, clip, round to 4 bits: the decoder's Linear layers; the rest stays."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "gptq"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    group_size: int = Field(64, ge=16, description="inputs that share a scale")
    symmetric: bool = Field(True, description="no zero point")
    windows: int = Field(32, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the checkpoint with its tokenizer.

        Raises:
            Refused: quantized already, a group size that does not divide a layer, a layer that GPTQModel cannot
            clip, or no or too little calibration text.
        """
        refuse_quantized(model.path)
        os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # it asks its pool for two whatever the machine has
        import torch
        from gptqmodel import BACKEND, GPTQModel
        from gptqmodel.quantization.config import AWQConfig

        torch.set_num_threads(context.threads)
        settings = AWQConfig(bits=4, group_size=self.group_size, sym=self.symmetric, offload_to_disk=False)
        loaded = GPTQModel.load(str(model.path), settings, device=self.device)
        _refuse_shapes(loaded.model, self.group_size)
        text = required_text(context, name_of(self))
        rows = windows(text, loaded.tokenizer, self.windows, self.window, name_of(self))
        fed = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows.tolist()]
        loaded.quantize(fed, batch_size=1, backend=BACKEND.AWQ_TORCH)
        loaded.save(str(context.scratch / "saved"))
        write_checkpoint(model.path, context.out, _tensors(context), self._told())
        found: dict[str, JsonValue] = {"calibration_tokens": int(rows.size), "calibration_text": text.name}
        return Produced(facts={**model.facts, **quantized_facts(context.out, "awq"), **found})

    def _told(self) -> dict[str, JsonValue]:
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": self.group_size,
            "zero_point": not self.symmetric,
            "modules_to_not_convert": None,
        }


def _tensors(context: Context) -> dict[str, Any]:
    """What GPTQModel saved, floats in float16.

    Raises:
        Refused: NaN or infinity in a layer.
    """
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in sorted((context.scratch / "saved").glob("*.safetensors")):
        tensors |= load_file(file)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.half()
            if not tensors[name].isfinite().all():
                raise Refused(f"`{name}` holds NaN or infinity", "the model or the calibration text is broken there")
    return tensors


def _refuse_shapes(model: Any, group_size: int) -> None:
    import torch

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        if module.in_features % group_size:
            raise Refused(
                f"`{name}` has {module.in_features} inputs, which groups of {group_size} do not divide",
                "choose another `group_size`",
            )
        if module.out_features % CLIPPED_TOGETHER:
            raise Refused(
                f"`{name}` has {module.out_features} outputs, no multiple of {CLIPPED_TOGETHER}",
                "use `quantize_gptq`",
            )
