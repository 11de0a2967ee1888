"""What AWQ is told, and what each of its backends gives back."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from stages.base import Frozen, Refused

BITS = 4


class Settings(Frozen):
    """Of `quantize_awq`, for every backend."""

    group_size: int
    symmetric: bool
    device: str
    threads: int


class Made(Frozen):
    """A quantized checkpoint: its tensors by name, and its `quantization_config`."""

    model_config = {"arbitrary_types_allowed": True, "frozen": True, "extra": "forbid"}

    tensors: dict[str, Any]
    told: dict[str, JsonValue]


def gemm(settings: Settings) -> dict[str, JsonValue]:
    """The `quantization_config` of a checkpoint in AWQ's GEMM format."""
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": BITS,
        "group_size": settings.group_size,
        "zero_point": not settings.symmetric,
        "modules_to_not_convert": None,
    }


def refuse_shapes(model: Any, settings: Settings, clipped_together: int | None = None) -> None:
    """Refuse a Linear layer that the groups, or the outputs that are clipped together, do not divide; by its name."""
    import torch

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        if module.in_features % settings.group_size:
            raise Refused(
                f"`{name}` has {module.in_features} inputs, which groups of {settings.group_size} do not divide",
                "choose another `group_size`",
            )
        if clipped_together and module.out_features % clipped_together:
            raise Refused(
                f"`{name}` has {module.out_features} outputs, no multiple of {clipped_together}",
                "use `quantize_gptq`, or `backend: llmcompressor`",
            )
