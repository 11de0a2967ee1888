"""The tiny model as a GPTQ and an AWQ checkpoint: groups rounded to nearest, packed as their tools pack them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from transformers import AutoModelForCausalLM

from stages._checkpoint import write_checkpoint
from stages._packed import packed_columns, packed_rows
from stages.base import Artifact

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def gptq_of(model: Artifact, folder: Path, group_size: int, act_order: bool = False) -> Artifact:
    """Every Linear layer of the decoder at 4 bits; with `act_order` a group's inputs lie scattered."""
    told = {
        "quant_method": "gptq", "checkpoint_format": "gptq", "bits": 4, "group_size": group_size, "sym": True,
        "desc_act": act_order, "lm_head": False,
    }  # fmt: skip
    return _written(model, folder, told, lambda weights: packed(weights, group_size, act_order))


def awq_of(model: Artifact, folder: Path, group_size: int) -> Artifact:
    """Every Linear layer of the decoder at 4 bits with zero points, in AWQ's GEMM format."""
    told = {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": group_size, "zero_point": True}
    return _written(model, folder, told, lambda weights: packed_awq(weights, group_size))


def _written(
    model: Artifact, folder: Path, told: dict[str, JsonValue], pack: Callable[[np.ndarray], dict[str, torch.Tensor]]
) -> Artifact:
    folder.mkdir()
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    tensors = {}
    for name, tensor in loaded.state_dict().items():
        if name.endswith("proj.weight"):
            layer = name.removesuffix(".weight")
            tensors |= {f"{layer}.{part}": each for part, each in pack(tensor.numpy()).items()}
        elif name != "lm_head.weight":
            tensors[name] = tensor.half().contiguous()
    write_checkpoint(model.path, folder, tensors, told)
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["bits"] == 4
    return Artifact(kind="hf", path=folder, digest="1", facts=model.facts)


def packed(weights: np.ndarray, group_size: int, act_order: bool) -> dict[str, torch.Tensor]:
    """Codes and scales of weights of shape (outputs, inputs)."""
    outputs, inputs = weights.shape
    order = np.random.default_rng(0).permutation(inputs) if act_order else np.arange(inputs)
    grouped = weights[:, order].reshape(outputs, -1, group_size)
    scales = (np.abs(grouped).max(2) / 7).astype(np.float16)
    found = np.clip(np.round(grouped / scales[..., None].astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    codes, group = np.empty((outputs, inputs), np.uint8), np.empty(inputs, np.int32)
    codes[:, order], group[order] = found.reshape(outputs, inputs), np.arange(inputs) // group_size
    zeros = np.full((inputs // group_size, outputs), 7, np.uint8)  # 8, stored less one
    return {
        "qweight": torch.from_numpy(packed_rows(codes.T.copy(), 4)),
        "qzeros": torch.from_numpy(packed_columns(zeros, 4)),
        "scales": torch.from_numpy(scales.T.copy()),
        "g_idx": torch.from_numpy(group),
    }


def packed_awq(weights: np.ndarray, group_size: int) -> dict[str, torch.Tensor]:
    """Codes, zero points and scales of weights of shape (outputs, inputs)."""
    outputs, inputs = weights.shape
    grouped = weights.reshape(outputs, -1, group_size)
    low, high = np.minimum(grouped.min(2), 0), np.maximum(grouped.max(2), 0)
    scales = ((high - low) / 15).astype(np.float16)
    zeros = np.round(-low / scales).astype(np.uint8)
    codes = np.clip(np.round(grouped / scales[..., None].astype(np.float32)) + zeros[..., None], 0, 15)
    return {
        "qweight": torch.from_numpy(interleaved(codes.reshape(outputs, inputs).astype(np.uint8).T)),
        "qzeros": torch.from_numpy(interleaved(zeros.T)),
        "scales": torch.from_numpy(scales.T.copy()),
    }


def interleaved(codes: np.ndarray) -> np.ndarray:
    """Codes of shape (n, outputs) in the order of AWQ's kernels."""
    words = codes.reshape(len(codes), -1, 8)[:, :, np.argsort(AWQ_ORDER)]
    return packed_columns(np.ascontiguousarray(words.reshape(codes.shape)), 4)
