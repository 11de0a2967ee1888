"""A causal language model walked layer by layer: each layer's inputs over calibration text, kept against a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._causal_lm import layers_of as blocks_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Enough(Exception):
    """What a hook looked for has come; the rest of the forward pass is not needed."""


@dataclass
class Layers:
    """A model's decoder layers, and how they are called on a window of the one length that all windows have."""

    model: Any
    blocks: Any
    arguments: dict[str, Any]

    def linears(self, number: int) -> dict[str, Any]:
        """The Linear modules of a layer, by their full name in the model."""
        import torch

        block = self.blocks[number]
        inside = {id(module) for module in block.modules() if isinstance(module, torch.nn.Linear)}
        return {name: module for name, module in self.model.named_modules() if id(module) in inside}

    def forward(self, number: int, hidden: Any) -> Any:
        """The layer's output for a window of shape (1, length, width)."""
        output = self.blocks[number](hidden, **self.arguments)
        return output[0] if isinstance(output, tuple) else output

    def sharing(self, number: int, hidden: Any) -> list[list[str]]:
        """The layer's Linear modules in the order they are called; those of one list share their input."""
        order: list[tuple[str, int]] = []
        seen: list[Any] = []

        def saw(name: str) -> Callable[[Any, Any], None]:
            def hook(_module: Any, given: Any) -> None:
                seen.append(given[0])  # kept alive, so that no other input gets its id
                order.append((name, id(given[0])))

            return hook

        hooks = [module.register_forward_pre_hook(saw(name)) for name, module in self.linears(number).items()]
        self.forward(number, hidden)
        for hook in hooks:
            hook.remove()
        groups: dict[int, list[str]] = {}
        for name, identity in order:
            groups.setdefault(identity, []).append(name)
        return list(groups.values())

    def inputs_of(self, number: int, module: Any, windows: Any) -> Iterator[Any]:
        """What comes into a module of the layer, shape (length, columns), window after window."""
        caught: list[Any] = []

        def catch(_module: Any, given: Any) -> None:
            caught.append(given[0])
            raise _Enough

        hook = module.register_forward_pre_hook(catch)
        try:
            for window in windows:
                try:
                    self.forward(number, window[None])
                except _Enough:
                    yield caught.pop()[0]
        finally:
            hook.remove()


def layers_of(model: Any, rows: NDArray[np.int64]) -> tuple[Layers, Any]:
    """The model's layers and what comes into the first for every window: shape (windows, length, width).

    Raises:
        Refused: the model has no list of decoder layers.
    """
    import torch

    blocks = blocks_of(model)
    caught: list[Any] = []
    arguments: dict[str, Any] = {}

    def catch(_module: Any, given: Any, named: dict[str, Any]) -> None:
        caught.append(given[0] if given else named["hidden_states"])
        arguments.update({name: value for name, value in named.items() if name != "hidden_states"})
        raise _Enough

    hook = blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    for row in torch.from_numpy(rows).to(model.device):
        with suppress(_Enough):
            model(row[None], use_cache=False)
    hook.remove()
    return Layers(model, blocks, arguments), torch.cat(caught)
