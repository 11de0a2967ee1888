"""Forward hooks that sum the squares of what comes into every Linear layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stages.base import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SquaredInputs:
    """Sums of squares by tensor name, in float64. Layers that share an input share its sum: q, k, v; gate and up."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self._last: tuple[Any, Any] = (None, None)

    def add(self, name: str, inputs: Any) -> None:
        """Add the rows of `inputs`, shape (..., columns).

        Raises:
            Refused: they hold NaN or infinity.
        """
        if self._last[0] is not inputs:
            self._last = inputs, _of_rows(name, inputs)
        sums = self._last[1]
        self.sums[name] = self.sums[name] + sums if name in self.sums else sums

    def forget_input(self) -> None:
        """Let go of the last input; the next window's may take its place in memory."""
        self._last = None, None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The sums, shape (columns,) each."""
        return {name: sums.float().numpy() for name, sums in self.sums.items()}


def _of_rows(name: str, inputs: Any) -> Any:
    rows = inputs.reshape(-1, inputs.shape[-1])
    sums = (rows * rows).sum(0).double()
    if not sums.isfinite().all():
        raise Refused(
            f"the inputs of `{name}` hold NaN or infinity", "the model itself is broken: look at the layer before it"
        )
    return sums


@contextmanager
def watched(linears: Mapping[str, Any]) -> Iterator[SquaredInputs]:
    """Sum the squared inputs of the Linear modules, by tensor name, for the length of a `with` block."""
    seen = SquaredInputs()

    def hook_of(name: str) -> Any:
        return lambda _module, arguments: seen.add(name, arguments[0])

    hooks = [linear.register_forward_pre_hook(hook_of(name)) for name, linear in linears.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
