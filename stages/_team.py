"""The processes that share a training, one a device: each does its part of a step, and accelerate adds the parts up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Part = TypeVar("Part")


@dataclass(frozen=True)
class Team:
    """The place of this process in it: `rank` of `size`, and the device as torch names it.

    All of them hold the same weights and go through the same steps; the first alone writes and tells.
    """

    device: str = "cpu"
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is this one that writes and tells."""
        return self.rank == 0

    def share(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Those parts of what all of them do that are done here."""
        return parts[self.rank :: self.size]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def total(self, value: float) -> float:
        """The sum of what each gives: the same number, to the last bit, in all of them."""
        if self.size == 1:
            return value
        import torch
        from accelerate.utils import reduce

        return float(reduce(torch.tensor(value, dtype=torch.float64, device=self.device), "sum"))

    def add_gradients(self, weights: Iterable[Any]) -> None:
        """Into each process's weights the sum of what all of them left there; a weight that has none counts as 0."""
        if self.size == 1:
            return
        import torch
        from accelerate.utils import reduce

        for each in weights:
            own = torch.zeros_like(each) if each.grad is None else each.grad
            each.grad = reduce(own, "sum")


ALONE = Team()
