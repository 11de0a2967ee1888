"""The tiny model as a GPTQ checkpoint: symmetric groups rounded to nearest, packed as GPTQ's tools pack them."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from stages._checkpoint import write_checkpoint
from stages._packed import packed_columns, packed_rows
from stages.base import Artifact


def gptq_of(model: Artifact, folder: Path, group_size: int) -> Artifact:
    """Every Linear layer of the decoder at 4 bits."""
    folder.mkdir()
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    tensors = {}
    for name, tensor in loaded.state_dict().items():
        if name.endswith("proj.weight"):
            layer = name.removesuffix(".weight")
            tensors |= {f"{layer}.{part}": each for part, each in packed(tensor.numpy(), group_size).items()}
        elif name != "lm_head.weight":
            tensors[name] = tensor.half().contiguous()
    told = {
        "quant_method": "gptq", "checkpoint_format": "gptq", "bits": 4, "group_size": group_size, "sym": True,
        "desc_act": False, "lm_head": False,
    }  # fmt: skip
    write_checkpoint(model.path, folder, tensors, told)
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["bits"] == 4
    return Artifact(kind="hf", path=folder, digest="1", facts=model.facts)


def packed(weights: np.ndarray, group_size: int) -> dict[str, torch.Tensor]:
    """Codes and scales of weights of shape (outputs, inputs)."""
    outputs, inputs = weights.shape
    grouped = weights.reshape(outputs, -1, group_size)
    scales = (np.abs(grouped).max(2) / 7).astype(np.float16)
    codes = np.clip(np.round(grouped / scales[..., None].astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    zeros = np.full((inputs // group_size, outputs), 7, np.uint8)  # 8, stored less one
    return {
        "qweight": torch.from_numpy(packed_rows(codes.reshape(outputs, inputs).T.copy(), 4)),
        "qzeros": torch.from_numpy(packed_columns(zeros, 4)),
        "scales": torch.from_numpy(scales.T.copy()),
        "g_idx": torch.from_numpy((np.arange(inputs) // group_size).astype(np.int32)),
    }
