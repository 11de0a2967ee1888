"""How a causal language model calls its decoder layers: with masks and rotary embeddings that may differ by layer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stages.base import Refused

_WAY_OUT = "use a decoder whose layers go from hidden states to hidden states"


class Enough(Exception):
    """What a hook looked for has come; the rest of the forward pass is not needed."""


@dataclass
class Arguments:
    """What a layer is given besides the hidden states; tensors that layers share are one tensor."""

    placed: tuple[Any, ...]
    named: dict[str, Any]


def hidden_of(output: Any) -> Any:
    """The hidden states that a layer gives, whatever else it gives with them."""
    return output[0] if isinstance(output, tuple) else output


def split(given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Arguments]:
    """A layer's hidden states, and what it is given besides."""
    if given:
        return given[0], Arguments(given[1:], dict(named))
    besides = dict(named)
    return besides.pop("hidden_states"), Arguments((), besides)


def calls(model: Any, blocks: Any, row: Any) -> tuple[Any, list[Arguments]]:
    """What comes into the first layer for a window of token ids, and what each layer is given besides.

    Raises:
        Refused: a layer does not get what the one in front of it gives, as it is.
    """
    found: list[tuple[Any, Arguments]] = []
    gave: list[Any] = []

    def called(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        found.append(split(given, named))
        if gave and not _same(gave.pop(), found[-1][0]):
            raise Refused(f"{type(model).__name__} changes what goes into layer {len(found) - 1}", _WAY_OUT)
        if len(found) == len(blocks):
            raise Enough

    hooks = [block.register_forward_pre_hook(called, with_kwargs=True) for block in blocks]
    hooks += [block.register_forward_hook(lambda *of: gave.append(hidden_of(of[2]))) for block in blocks]
    with suppress(Enough):
        model(row[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    if len(found) < len(blocks):
        raise Refused(f"{type(model).__name__} calls {len(found)} of its {len(blocks)} layers", _WAY_OUT)
    return found[0][0], [besides for _, besides in found]


def refuse_other_arguments(model: Any, here: Arguments, before: Arguments) -> None:
    """Raises:
    Refused: the layers are given something that depends on the window's tokens.
    """
    if not _same((here.placed, here.named), (before.placed, before.named)):
        raise Refused(f"{type(model).__name__} gives its layers more of each window than hidden states", _WAY_OUT)


def _same(one: Any, other: Any) -> bool:
    """Whether tensors are, wherever they lie in tuples and dicts; other values are settings."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one is other or torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    return True
