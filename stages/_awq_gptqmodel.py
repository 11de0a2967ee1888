"""AWQ with GPTQModel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from stages._awq import BITS, Made, Settings, first_of_layers, gemm, losses_named, refuse_shapes
from stages._saved_tensors import saved
from stages.base import Refused

CLIPPED_TOGETHER = 64  # it searches clipping for so many outputs at a time


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Made:
    """The checkpoint, from windows of token ids of shape (n, length).

    Raises:
        Refused: a layer that it cannot group or clip, NaN or infinity in a layer.
    """
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # it asks its pool for two whatever the machine has
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.looper.awq_processor import AWQProcessor
    from gptqmodel.quantization.config import AWQConfig

    torch.set_num_threads(settings.threads)
    how = AWQConfig(bits=BITS, group_size=settings.group_size, sym=settings.symmetric, offload_to_disk=False)
    loaded = GPTQModel.load(str(folder), how, device=settings.device)
    refuse_shapes(loaded.model, settings, CLIPPED_TOGETHER)
    fed = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows.tolist()]
    named = losses_named(AWQProcessor, loaded.model, first_of_layers)
    with named, _refusals_told(), chdir(scratch):  # it writes `logs/` into the working folder
        loaded.quantize(fed, batch_size=1, backend=BACKEND.AWQ_TORCH)
    loaded.save(str(scratch / "saved"))
    return Made(tensors=saved(scratch / "saved"), told=gemm(settings))


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Within it a refusal comes out of a worker thread: GPTQModel ends the process where one fails, `os._exit(1)`."""
    from gptqmodel.utils.threadx import _DeviceWorker

    end = _DeviceWorker._abort_process

    def end_unless_refused(worker: Any, error: BaseException) -> None:
        if not isinstance(error, Refused):
            end(worker, error)

    _DeviceWorker._abort_process = end_unless_refused
    try:
        yield
    finally:
        _DeviceWorker._abort_process = end
