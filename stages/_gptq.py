"""Linear layers by GPTQ, with GPTQModel's solver, or rounded to nearest; and their tensors as in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np

from stages._packed import packed_columns, packed_rows, planar_columns, planar_rows
from stages.base import Frozen, Refused

BLOCK = 128
PLANAR_BITS = frozenset({5, 6, 7})
"""What GPTQModel packs in planes alone, with zero points as they are."""


class Settings(Frozen):
    """What GPTQ is told."""

    bits: int
    group_size: int
    symmetric: bool
    act_order: bool
    damping: float
    scale_search: float
    gptaq: bool = False

    def config(self) -> Any:
        """As GPTQModel takes it; a layer that fails is no layer to fall back silently on."""
        from gptqmodel.quantization.config import GPTQConfig

        return GPTQConfig(
            bits=self.bits,
            group_size=self.group_size,
            sym=self.symmetric,
            desc_act=self.act_order,
            act_group_aware=False,
            damp_percent=self.damping,
            mse=self.scale_search,
            fallback=None,
            offload_to_disk=False,
        )


class Solved(Frozen):
    """A layer's codes and what turns them back: shapes (outputs, inputs), (outputs, groups) twice, (inputs,)."""

    model_config = {"arbitrary_types_allowed": True, "frozen": True, "extra": "forbid"}

    weights: Any
    scales: Any
    zeros: Any
    groups: Any
    loss: float

    def tensors(self, bits: int) -> dict[str, Any]:
        """In the layout of a GPTQ checkpoint: zeros stored less one but for planes, scales in float16.

        The codes are those that the float32 scales give.
        """
        import torch

        group = self.groups.long().cpu()
        weights, scales, zeros = (part.float().cpu() for part in (self.weights, self.scales, self.zeros))
        codes = torch.round(weights / scales[:, group] + zeros[:, group]).clamp(0, 2**bits - 1)
        planar = bits in PLANAR_BITS
        rows, columns = (planar_rows, planar_columns) if planar else (packed_rows, packed_columns)
        stored = (zeros.T.numpy().astype(np.int64) - (not planar)) & (2**bits - 1)
        return {
            "qweight": torch.from_numpy(rows(codes.T.numpy().astype(np.uint8), bits)),
            "qzeros": torch.from_numpy(columns(stored.astype(np.uint8), bits)),
            "scales": scales.T.contiguous().half(),
            "g_idx": group.int(),
        }


def refuse_sizes(name: str, inputs: int, outputs: int, group_size: int) -> None:
    """Raises:
    Refused: a group size that does not divide the layer's inputs, or weights that fill no 32-bit word.
    """
    if group_size > 0 and inputs % group_size:
        raise Refused(
            f"`{name}` has {inputs} inputs, which groups of {group_size} do not divide",
            "choose another `group_size`; -1 is a whole row",
        )
    if inputs % 32 or outputs % 32:
        raise Refused(
            f"`{name}` has {outputs}x{inputs} weights: both must be multiples of 32",
            "the format has no room for the rest: use another model",
        )


def solve(
    names: list[str], modules: list[Any], inputs: Iterable[Any], wanted: list[Any], settings: Settings
) -> list[Solved]:
    """Quantize Linear modules that share their inputs, windows of shape (length, columns).

    `wanted`, if any, are the inputs that the float model gives them, window by window: the modules then aim at their
    float outputs on these, whatever the quantized layers in front of them give.

    Raises:
        Refused: inputs or losses that are not finite, or a Hessian that no damping makes invertible.
    """
    from gptqmodel.quantization.gptq import GPTQ

    tasks = [GPTQ(module, settings.config()) for module in modules]
    for task in tasks:
        task.quantizer.configure(perchannel=True)
    drift = _accumulate(names[0], tasks[0], inputs, wanted)
    for task in tasks[1:]:
        task.adopt_hessian_from(tasks[0])
    if drift is not None:
        for module in modules:
            module.weight.data.copy_(aimed(module.weight.data, tasks[0].H, drift, settings.damping))
    return [_solved(name, task, settings) for name, task in zip(names, tasks, strict=True)]


def _accumulate(name: str, task: Any, inputs: Iterable[Any], wanted: list[Any]) -> Any:
    """Feed the task's Hessian; how far inputs drifted, 2/n (X - X~) X~^T over n tokens, None if `wanted` is empty."""
    drift, tokens = None, 0
    for window, float_window in zip(inputs, wanted or repeat(None), strict=bool(wanted)):
        if not window.isfinite().all():
            raise Refused(f"the inputs of `{name}` hold NaN or infinity", "the model is broken in front of it")
        task.add_batch(window, None)
        tokens += len(window)
        if float_window is not None:
            found = (float_window - window).T @ window
            drift = found if drift is None else drift.add_(found)
    task.materialize_global_hessian()
    return None if drift is None else drift * (2 / tokens)


def aimed(weights: Any, hessian: Any, drift: Any, damping: float) -> Any:
    """The weights whose outputs on the drifted inputs X~ are nearest to W X: W + W (X - X~) X~^T (X~ X~^T)^-1, damped.

    What is left of |W X - Q X~|^2 is then GPTQ's own |W' X~ - Q X~|^2. The objective is GPTAQ's (arXiv 2504.02692),
    solved in closed form ahead of the rounding and not column by column within it.
    """
    import torch

    damped = hessian.clone()
    damped.diagonal().add_(damping * hessian.diagonal().mean())
    return weights + torch.linalg.solve(damped, (weights @ drift).T).T


def _solved(name: str, task: Any, settings: Settings) -> Solved:
    # A block is a group: within a block GPTQModel updates a copy, and it would take the range of every later group of
    # the block from weights as they were before the errors of the earlier ones were handed on.
    block = settings.group_size if settings.group_size > 0 else BLOCK
    try:
        weights, scales, zeros, groups, _seconds, loss, _damping, _rows = task.quantize(blocksize=block)
    except ValueError as error:
        raise Refused(f"`{name}`: {' '.join(str(error).split())}", "more calibration text, or more damping") from error
    task.free()
    if not isinstance(loss, float) or not math.isfinite(loss) or not weights.isfinite().all():
        raise Refused(f"`{name}`: the loss is {loss}", "the model or the calibration text is broken there")
    return Solved(weights=weights, scales=scales, zeros=zeros, groups=groups, loss=loss)


def rounded(name: str, module: Any, settings: Settings) -> Solved:
    """A Linear module rounded to nearest on the same grid: the range of each group decides its scale.

    Raises:
        Refused: weights that are not finite.
    """
    import torch
    from gptqmodel.quantization.quantizer import Quantizer

    weights = module.weight.detach()
    if not weights.isfinite().all():
        raise Refused(f"the weights of `{name}` hold NaN or infinity", "the model is broken there")
    size = settings.group_size if settings.group_size > 0 else weights.shape[1]
    quantizer = Quantizer(settings.config())
    quantizer.configure(perchannel=True)
    made, scales, zeros = [], [], []
    for block in weights.split(size, dim=1):
        quantizer.find_params(block, weight=True)
        made.append(quantizer.quantize(block))
        scales.append(quantizer.scale)
        zeros.append(quantizer.zero)
    groups = torch.arange(weights.shape[1]) // size
    solved = torch.cat(made, 1)
    loss = float((solved - weights).square().mean())
    return Solved(weights=solved, scales=torch.cat(scales, 1), zeros=torch.cat(zeros, 1), groups=groups, loss=loss)
