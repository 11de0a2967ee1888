"""Layers of a torch module with other sizes than those it is built with: what structured pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attributes = dict[str, int | tuple[int, ...]]
"""Of one layer: `out_channels: 40`, `normalized_shape: (40,)`."""


def resized(module: Any, sizes: Mapping[str, Attributes], tensors: Mapping[str, Any]) -> None:
    """Give the layers these attributes, and every weight and buffer the shape of the tensor of its name.

    The values stay to be filled in. A layer that the module lacks is left to whoever fills them.
    """
    layers = dict(module.named_modules())
    for name, attributes in sizes.items():
        for attribute, value in attributes.items():
            setattr(layers[name], attribute, value)
    for key, tensor in tensors.items():
        owner, _, name = key.rpartition(".")
        held = getattr(layers.get(owner), name, None)
        if held is not None and held.shape != tensor.shape:
            _replace(layers[owner], name, held, tensor)


def _replace(layer: Any, name: str, held: Any, tensor: Any) -> None:
    import torch

    if isinstance(held, torch.nn.Parameter):
        setattr(layer, name, torch.nn.Parameter(torch.empty_like(tensor, dtype=held.dtype)))
    else:
        layer.register_buffer(name, torch.empty_like(tensor, dtype=held.dtype))


def sizes_of(module: Any) -> dict[str, Attributes]:
    """The whole numbers, and the tuples of them, that each layer holds as plain attributes."""
    return {name: dict(filter(_is_size, vars(layer).items())) for name, layer in module.named_modules()}


def changed(before: Mapping[str, Attributes], after: Mapping[str, Attributes]) -> dict[str, Attributes]:
    """What of the second differs from the first."""
    differing = {
        name: {key: value for key, value in sizes.items() if before[name].get(key) != value}
        for name, sizes in after.items()
    }
    return {name: sizes for name, sizes in differing.items() if sizes}


def _is_size(entry: tuple[str, Any]) -> bool:
    name, value = entry
    values = value if isinstance(value, tuple) and value else (value,)
    return not name.startswith("_") and all(type(each) is int for each in values)
