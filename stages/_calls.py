"""How the examples of a step are shown to a module: on which device, in which precision, how many a call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from stages.base import Refused

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Calls:
    """`most` examples each, or all of a step's in one; `device` as torch names it, `precision` of the forward pass."""

    device: str = "cpu"
    precision: Precision = "float32"
    most: int | None = None

    @property
    def exact(self) -> Calls:
        """The same in float32: for answers that are kept, and for looks at what is held out."""
        return replace(self, precision="float32")

    def parts(self, rows: Any) -> list[Any]:
        """Those of each call, of anything with a length and slices."""
        return in_parts(rows, self.most or max(1, len(rows)))

    def of(self, module: Any, *given: Any) -> Any:
        """What the module says of these tensors, which are brought to its device."""
        with self.casting():
            return module(*(each.to(self.device) for each in given))

    def casting(self) -> Any:
        """Within it a forward pass is in `precision`."""
        return casting(self.device, self.precision)


HERE = Calls()


def device_of(asked: Device) -> Literal["cpu", "cuda"]:
    """Where torch computes; on CUDA such that it can repeat it, so ask before anything is computed.

    Raises:
        Refused: CUDA is asked for, and torch finds none.
    """
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise Refused("`device: cuda`: this build of torch finds no GPU", "leave `device` out, or use Dockerfile.cuda")
    if asked == "cpu" or not torch.cuda.is_available():
        return "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    return "cuda"


def casting(device: str, precision: Precision) -> Any:
    """A context in which torch's forward passes on `device` are in `precision`; gradients and weights stay float32."""
    import torch

    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def in_parts(rows: Any, most: int) -> list[Any]:
    """One after the other `most` of them; the last has what is left."""
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def accumulated(losses: Iterable[Any]) -> float:
    """Leave each loss's gradients in the weights before the next one is computed; the sum of the losses."""
    total = 0.0
    for loss in losses:
        loss.backward()
        total += float(loss.detach())
    return total
