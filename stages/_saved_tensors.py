"""The tensors that a quantizer saved, or holds: floats in float16, and finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.base import Refused


def saved(folder: Path) -> dict[str, Any]:
    """The tensors of a saved folder, floats in float16.

    Raises:
        Refused: NaN or infinity in a layer.
    """
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return finite(tensors)


def finite(tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors, floats in float16.

    Raises:
        Refused: NaN or infinity in a layer.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.half().contiguous()
            if not tensors[name].isfinite().all():
                raise Refused(f"`{name}` holds NaN or infinity", "the model or the calibration text is broken there")
    return tensors
