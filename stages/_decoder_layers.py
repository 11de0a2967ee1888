"""A causal language model walked layer by layer: each layer's inputs over calibration text, kept against a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages._causal_lm import layers_of as blocks_of
from stages._decoder_calls import Arguments, Enough, calls, hidden_of, refuse_other_arguments, split
from stages.base import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class Layers:
    """A model's decoder layers, and how each is called on a window of the one length that all windows have."""

    model: Any
    blocks: Any
    arguments: list[Arguments]

    def linears(self, number: int) -> dict[str, Any]:
        """The Linear modules of a layer, by their full name in the model."""
        import torch

        block = self.blocks[number]
        inside = {id(module) for module in block.modules() if isinstance(module, torch.nn.Linear)}
        return {name: module for name, module in self.model.named_modules() if id(module) in inside}

    def forward(self, number: int, hidden: Any) -> Any:
        """The layer's output for a window of shape (1, length, width)."""
        given = self.arguments[number]
        return hidden_of(self.blocks[number](hidden, *given.placed, **given.named))

    def sharing(self, number: int, hidden: Any) -> list[list[str]]:
        """The layer's Linear modules in the order they are called; those of one list share their input.

        Raises:
            Refused: a module that does not see every token, as an expert of a mixture.
        """
        seen: list[tuple[str, Any]] = []  # inputs are kept alive, so that no other one gets its id

        def saw(name: str) -> Callable[[Any, Any], None]:
            return lambda _module, given: seen.append((name, given[0]))

        linears = self.linears(number)
        hooks = [module.register_forward_pre_hook(saw(name)) for name, module in linears.items()]
        self.forward(number, hidden)
        for hook in hooks:
            hook.remove()
        _refuse_unseen(linears, {name: len(tokens_of(given)) for name, given in seen}, hidden.shape[1])
        groups: dict[int, list[str]] = {}
        for name, given in seen:
            groups.setdefault(id(given), []).append(name)
        return list(groups.values())

    def inputs_of(self, number: int, module: Any, windows: Any) -> Iterator[Any]:
        """What comes into a module of the layer, shape (length, columns), window after window."""
        caught: list[Any] = []

        def catch(_module: Any, given: Any) -> None:
            caught.append(given[0])
            raise Enough

        hook = module.register_forward_pre_hook(catch)
        try:
            for window in windows:
                try:
                    self.forward(number, window[None])
                except Enough:
                    yield tokens_of(caught.pop())
        finally:
            hook.remove()


def layers_of(model: Any, rows: NDArray[np.int64]) -> tuple[Layers, Any]:
    """The model's layers and what comes into the first for every window: shape (windows, length, width).

    The first window goes down to the last layer, to see how each is called; the others stop at the first.

    Raises:
        Refused: the model has no list of decoder layers, or they cannot be called one after the other.
    """
    import torch

    blocks = blocks_of(model)
    first, *others = torch.from_numpy(rows).to(model.device)
    hidden, arguments = calls(model, blocks, first)
    caught = [hidden]

    def catch(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden, besides = split(given, named)
        refuse_other_arguments(model, besides, arguments[0])
        caught.append(hidden)
        raise Enough

    hook = blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    for row in others:
        with suppress(Enough):
            model(row[None], use_cache=False)
    hook.remove()
    return Layers(model, blocks, arguments), torch.cat(caught)


def uncalled(model: Any) -> Layers:
    """The model's layers, for rounding without text: nothing is known of how they are called.

    Raises:
        Refused: the model has no list of decoder layers.
    """
    return Layers(model, blocks_of(model), [])


def tokens_of(given: Any) -> Any:
    """A module's input as (tokens, columns), with or without a dimension for windows in front."""
    return given.flatten(0, -2)


def _refuse_unseen(linears: dict[str, Any], tokens: dict[str, int], length: int) -> None:
    for name in linears:
        if (found := tokens.get(name, 0)) != length:
            raise Refused(
                f"`{name}` sees {found} of the {length} tokens of a calibration window",
                "GPTQ calibrates no experts of a mixture: `method: rtn` rounds them without text",
            )
