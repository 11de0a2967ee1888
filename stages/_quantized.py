"""What a checkpoint says of its own quantization, and its weights in floats."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._packed import from_awq, from_compressed, from_gptq
from stages.base import Frozen, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = frozenset({"gptq", "awq", "compressed-tensors"})
PLANAR = "gptq_p"
"""GPTQModel's `checkpoint_format` of 5, 6 and 7 bits."""
PARTS = re.compile(
    r"(?P<layer>.+)\.(?P<part>qweight|qzeros|scales|g_idx"
    r"|weight_packed|weight_scale|weight_shape|weight_zero_point|weight_g_idx)"
)


class Quantization(Frozen):
    """The `quantization_config` of a folder, as far as it matters."""

    method: str
    bits: int
    group_size: int
    symmetric: bool
    zeros_less_one: bool = False
    planar: bool = False

    @property
    def told(self) -> str:
        """In words."""
        return f"{self.method} at {self.bits} bits, groups of {self.group_size}"


def quantization(folder: Path) -> Quantization | None:
    """How the checkpoint in a Hugging Face folder is quantized, None when it is not.

    Raises:
        Refused: in a way that nothing here reads.
    """
    given = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if not given:
        return None
    method = str(given.get("quant_method"))
    if method == "compressed-tensors":
        return _compressed(given)
    if method not in METHODS or (method == "awq" and str(given.get("version", "gemm")).lower() != "gemm"):
        raise Refused(
            f"the checkpoint is quantized with {method}, which nothing here reads",
            f"give a float checkpoint, or one of {', '.join(sorted(METHODS))}",
        )
    form = given.get("checkpoint_format", given.get("format", "gptq"))
    return Quantization(
        method=method,
        bits=given["bits"],
        group_size=given["group_size"],
        symmetric=given.get("sym", not given.get("zero_point", True)),
        zeros_less_one=method == "gptq" and form not in ("gptq_v2", PLANAR),
        planar=method == "gptq" and form == PLANAR,
    )


def _compressed(given: dict[str, Any]) -> Quantization:
    groups = list(given["config_groups"].values())
    weights = groups[0]["weights"]
    if given.get("format") != "pack-quantized" or len(groups) != 1 or groups[0].get("input_activations"):
        raise Refused(
            f"compressed-tensors in the format {given.get('format')} with {len(groups)} config groups is not read",
            "quantize weights alone and all alike, pack-quantized",
        )
    size = weights.get("group_size") or -1
    return Quantization(
        method="compressed-tensors", bits=weights["num_bits"], group_size=size, symmetric=weights["symmetric"]
    )


def refuse_quantized(folder: Path) -> None:
    """Raises:
    Refused: the checkpoint is quantized already, saying with what.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if given := config.get("quantization_config"):
        method, bits = given.get("quant_method"), given.get("bits")
        told = f"{method} to {bits} bits" if bits else str(method)
        raise Refused(f"the checkpoint is quantized already, with {told}", "give the float checkpoint")


def floats(folder: Path, how: Quantization) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Every parameter of the folder by name, de-quantized where it was quantized; the rest as it is stored."""
    parts: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, tensor in _stored(folder):
        if match := PARTS.fullmatch(name):
            kept = tensor.float() if tensor.is_floating_point() else tensor
            parts[match["layer"]][match["part"]] = kept.numpy()
        else:
            yield name, tensor.float().numpy()
    for layer, tensors in parts.items():
        yield f"{layer}.weight", _weights(tensors, how)


def _weights(tensors: dict[str, Any], how: Quantization) -> NDArray[np.float32]:
    if how.method == "gptq":
        return from_gptq(tensors, how.bits, how.zeros_less_one, how.planar)
    if how.method == "awq":
        return from_awq(tensors, how.bits, how.group_size)
    return from_compressed(tensors, how.bits)


def _stored(folder: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (safe_open is no dict)
                yield name, opened.get_tensor(name)


def bits_a_weight(folder: Path, how: Quantization) -> float:
    """Bits that the files hold for each quantized weight: scales, zero points and order included."""
    held, weights = 0, 0.0
    for name, tensor in _stored(folder):
        if match := PARTS.fullmatch(name):
            size = 8 * tensor.element_size() * tensor.nelement()
            held += size
            weights += size / how.bits if match["part"] in ("qweight", "weight_packed") else 0
    return held / weights
