"""GPTQ with AutoGPTQ, which its authors no longer maintain and which quantizes on CUDA alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stages._gptq import Settings, refuse_sizes
from stages._older_checkpoint import as_transformers_4
from stages._safetensors_header import stored
from stages._saved_tensors import saved

_OF_A_LAYER = re.compile(r"(?P<name>.+\.\d+\..+)\.weight")


def refuse_group_size(folder: Path, settings: Settings) -> None:
    """Raises:
    Refused: a group size that does not divide a layer, by the headers of the stored weights.
    """
    for tensor in stored(folder):
        if len(tensor.shape) == 2 and (found := _OF_A_LAYER.fullmatch(tensor.name)):
            outputs, inputs = tensor.shape
            refuse_sizes(found["name"], inputs, outputs, settings.group_size)


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> dict[str, Any]:
    """The checkpoint's tensors in the first GPTQ format, from windows of token ids of shape (n, length).

    Raises:
        Refused: NaN or infinity in a layer.
    """
    import torch
    from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig

    how = BaseQuantizeConfig(
        bits=settings.bits,
        group_size=settings.group_size,
        sym=settings.symmetric,
        desc_act=settings.act_order,
        damp_percent=settings.damping,
    )
    seen = as_transformers_4(folder, scratch / "seen")
    loaded = AutoGPTQForCausalLM.from_pretrained(str(seen), how, torch_dtype=torch.float16, trust_remote_code=False)
    fed = [{"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in torch.from_numpy(rows)]
    loaded.quantize(fed, batch_size=1)
    loaded.save_quantized(str(scratch / "saved"), use_safetensors=True)
    return saved(scratch / "saved")
