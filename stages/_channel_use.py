"""How much calibration text uses each channel of a decoder: what its norms and its MLPs' neurons say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._llama_shape import Shape
from stages.base import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ChannelUse:
    """Sums over tokens, in float64: magnitudes of the norms' outputs, shape (hidden,), over all norms; of each MLP's
    neurons, shape (intermediate,) a layer; squares of each norm's inputs, shape (hidden,) by its name.
    """

    hidden: Any
    intermediate: list[Any]
    squares: dict[str, Any]

    def most_used(self, hidden: int | None, intermediate: int | None) -> Cut:
        """The channels used most, in their order; of equal ones the first."""
        return Cut(
            None if hidden is None else _largest(self.hidden, hidden),
            None if intermediate is None else [_largest(layer, intermediate) for layer in self.intermediate],
        )

    def first(self, hidden: int | None, intermediate: int | None) -> Cut:
        """The first channels, whatever they are."""
        import torch

        return Cut(
            None if hidden is None else torch.arange(hidden),
            None if intermediate is None else [torch.arange(intermediate) for _ in self.intermediate],
        )

    def gain(self, norm: str, kept: Any) -> float:
        """Root mean square of the norm's inputs in these channels over that in all of them."""
        squares = self.squares[norm]
        whole = float(squares.mean())
        return math.sqrt(float(squares[kept].mean()) / whole) if whole else 1.0


@dataclass(frozen=True)
class Cut:
    """Indices of the residual channels left, and of the neurons left in each layer; None: all."""

    hidden: Any
    intermediate: list[Any] | None


def _largest(use: Any, count: int) -> Any:
    return use.sort(descending=True, stable=True).indices[:count].sort().values


@contextmanager
def watched(shape: Shape) -> Iterator[ChannelUse]:
    """Add up the use of each channel by all that the model is given for the length of a `with` block."""
    import torch

    def zeros(size: int) -> Any:
        return torch.zeros(size, dtype=torch.float64)

    use = ChannelUse(
        zeros(shape.hidden),
        [zeros(shape.intermediate) for _ in shape.downs],
        {name: zeros(shape.hidden) for name in shape.norms},
    )

    def normed(squares: Any) -> Callable[[Any, Any, Any], None]:
        def add(_module: Any, given: Any, said: Any) -> None:
            squares.add_(_rows(given[0]).square().sum(0).double())
            use.hidden.add_(_rows(said).abs().sum(0).double())

        return add

    def came_in(magnitudes: Any) -> Callable[[Any, Any], None]:
        def add(_module: Any, given: Any) -> None:
            magnitudes.add_(_rows(given[0]).abs().sum(0).double())

        return add

    hooks = [norm.register_forward_hook(normed(use.squares[name])) for name, (norm, _) in shape.norms.items()]
    hooks += [
        down.register_forward_pre_hook(came_in(magnitudes))
        for down, magnitudes in zip(shape.downs, use.intermediate, strict=True)
    ]
    try:
        yield use
    finally:
        for hook in hooks:
            hook.remove()


def _rows(values: Any) -> Any:
    return values.detach().reshape(-1, values.shape[-1])


def nll(model: Any, windows: NDArray[np.int64], moved: Callable[[], None]) -> float:
    """Mean negative log-likelihood a token of windows of shape (n, length), in nats.

    Raises:
        Refused: it is no number.
    """
    import torch

    total = 0.0
    with torch.inference_mode():
        for row in torch.from_numpy(windows):
            logits = model(row[None], use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum"))
            moved()
    loss: float = total / (windows.shape[0] * (windows.shape[1] - 1))
    if not math.isfinite(loss):
        raise Refused(f"the loss of the calibration text is {loss}", "the model itself is broken: fetch it again")
    return loss
