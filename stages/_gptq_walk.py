"""All decoder layers by GPTQ, one after the other: each sees what the quantized ones in front of it give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages._decoder_layers import Layers, tokens_of
from stages._gptq import Settings, Solved, refuse_sizes, rounded, solve
from stages._layer_results import LayerResults
from stages.base import Refused


def refuse_group_size(layers: Layers, settings: Settings) -> None:
    """Refuse a group size that does not divide a layer, naming it, and columns that fill no 32-bit word."""
    for number in range(len(layers.blocks)):
        for name, module in layers.linears(number).items():
            refuse_sizes(name, module.in_features, module.out_features, settings.group_size)


def refuse_stacked(layers: Layers) -> None:
    """Refuse weights of three dimensions, by name: a mixture's experts, held together and in no Linear module."""
    import torch

    for number, block in enumerate(layers.blocks):
        for within, module in block.named_modules():
            for name, weights in module.named_parameters(recurse=False):
                if weights.ndim > 2 and not isinstance(module, torch.nn.Conv1d):
                    raise Refused(
                        f"layer {number}: `{within}.{name}` holds {len(weights)} experts, which are no Linear layers",
                        "GPTQ quantizes Linear layers alone: use a model without a mixture of experts",
                    )


def walk(
    layers: Layers, hidden: Any, settings: Settings, kept: LayerResults, progress: Callable[[float, float, str], None]
) -> dict[str, Any]:
    """Quantize every layer, or take it from `kept`; a checkpoint's tensors by name.

    `hidden` holds the first layer's inputs, shape (windows, length, width); None rounds to nearest, without text. With
    `gptaq` the float model's own hidden states go along: shape (2, windows, length, width), the float ones first.
    """
    import torch

    begun = kept.finished()
    if hidden is not None:
        hidden = hidden.expand(2 if settings.gptaq else 1, *hidden.shape)
    tensors: dict[str, Any] = {}
    for number in range(begun):
        tensors |= kept.layer(number)
    if begun and hidden is not None:
        hidden = kept.inputs(begun).to(hidden.device)
    for number in range(begun, len(layers.blocks)):
        progress(number, len(layers.blocks), "layers")
        sharing = layers.sharing(number, hidden[-1][:1]) if hidden is not None else []
        wanted, passed = _float_pass(layers, number, hidden, sharing) if settings.gptaq else ([], [])
        made = _layer(layers, number, hidden, sharing, wanted, settings)
        found = {
            f"{name}.{part}": value for name, one in made.items() for part, value in one.tensors(settings.bits).items()
        }
        tensors |= found
        if hidden is not None:
            hidden = torch.stack([*passed, _through(layers, number, hidden[-1])])
            kept.keep(number, found, hidden)
    progress(len(layers.blocks), len(layers.blocks), "layers")
    return tensors


def _layer(
    layers: Layers, number: int, hidden: Any, sharing: list[list[str]], wanted: list[Any], settings: Settings
) -> dict[str, Solved]:
    modules = layers.linears(number)
    if hidden is None:
        return {name: rounded(name, module, settings) for name, module in modules.items()}
    made: dict[str, Solved] = {}
    for place, names in enumerate(sharing):
        shared = [modules[name] for name in names]
        given = layers.inputs_of(number, shared[0], hidden[-1])
        solved = solve(names, shared, given, wanted[place] if wanted else [], settings)
        for name, module, one in zip(names, shared, solved, strict=True):
            module.weight.data.copy_(one.weights)
            made[name] = one
    return made


def _float_pass(layers: Layers, number: int, hidden: Any, sharing: list[list[str]]) -> tuple[list[Any], list[Any]]:
    """What the layer, not yet quantized, feeds to each group of modules on the float path, and its outputs."""
    modules = layers.linears(number)
    caught: list[list[Any]] = [[] for _ in sharing]
    hooks = [
        modules[names[0]].register_forward_pre_hook(lambda _module, given, kept=kept: kept.append(tokens_of(given[0])))
        for names, kept in zip(sharing, caught, strict=True)
    ]
    passed = _through(layers, number, hidden[0])
    for hook in hooks:
        hook.remove()
    return caught, [passed]


def _through(layers: Layers, number: int, hidden: Any) -> Any:
    import torch

    return torch.cat([layers.forward(number, window[None]) for window in hidden])
