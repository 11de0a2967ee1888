"""AWQ with GPTQModel."""

from __future__ import annotations

import os
from contextlib import chdir
from pathlib import Path
from typing import Any

from stages._awq import BITS, Made, Settings, gemm, refuse_shapes
from stages._saved_tensors import saved

CLIPPED_TOGETHER = 64  # it searches clipping for so many outputs at a time


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Made:
    """The checkpoint, from windows of token ids of shape (n, length).

    Raises:
        Refused: a layer that it cannot group or clip, NaN or infinity in a layer.
    """
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # it asks its pool for two whatever the machine has
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.quantization.config import AWQConfig

    torch.set_num_threads(settings.threads)
    how = AWQConfig(bits=BITS, group_size=settings.group_size, sym=settings.symmetric, offload_to_disk=False)
    loaded = GPTQModel.load(str(folder), how, device=settings.device)
    refuse_shapes(loaded.model, settings, CLIPPED_TOGETHER)
    fed = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows.tolist()]
    with chdir(scratch):  # it writes `logs/` into the working folder
        loaded.quantize(fed, batch_size=1, backend=BACKEND.AWQ_TORCH)
    loaded.save(str(scratch / "saved"))
    return Made(tensors=saved(scratch / "saved"), told=gemm(settings))
