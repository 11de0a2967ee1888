"""Where a decoder of Llama's shape has its two widths: that of the residual stream, and of each MLP's neurons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from stages._causal_lm import layers_of
from stages.base import Refused

Width = Literal["hidden", "intermediate"]
_WHERE = re.compile(r"model\.layers\.(?P<layer>\d+)\.(?P<inside>.+)")
_LAYER: tuple[tuple[str, tuple[Width | None, ...]], ...] = (
    (r"self_attn\.[qkv]_proj\.weight", (None, "hidden")),
    (r"self_attn\.[qkv]_proj\.bias", (None,)),
    (r"self_attn\.[qk]_norm\.weight", (None,)),
    (r"self_attn\.o_proj\.weight", ("hidden", None)),
    (r"self_attn\.o_proj\.bias", ("hidden",)),
    (r"mlp\.(gate|up)_proj\.weight", ("intermediate", "hidden")),
    (r"mlp\.(gate|up)_proj\.bias", ("intermediate",)),
    (r"mlp\.down_proj\.weight", ("hidden", "intermediate")),
    (r"mlp\.down_proj\.bias", ("hidden",)),
    (r"\w+norm\.weight", ("hidden",)),
)
_AROUND: tuple[tuple[str, tuple[Width | None, ...]], ...] = (
    (r"model\.embed_tokens\.weight", (None, "hidden")),
    (r"model\.norm\.weight", ("hidden",)),
    (r"lm_head\.weight", (None, "hidden")),
    (r"lm_head\.bias", (None,)),
)
_NEEDED = {f"self_attn.{name}_proj.weight" for name in "qkvo"} | {f"mlp.{name}_proj.weight" for name in ("up", "down")}
_KNOWN = (
    (re.compile(r"expert|router|\.mlp\.gate\.|_moe"), "a mixture of experts"),
    (re.compile(r"qkv|gate_up|c_attn|query_key_value"), "several matrices fused into one"),
)
_WAY_OUT = "use a Llama, Mistral, Qwen2, Qwen3, Gemma or one like them; `drop_layers` takes any decoder"


@dataclass(frozen=True)
class Place:
    """A parameter, the layer that holds it, and for each of its dimensions which width it has, if any."""

    name: str
    parameter: Any
    layer: int | None
    widths: tuple[Width | None, ...]


@dataclass(frozen=True)
class Shape:
    """A model's parameters, its norms of the residual width by name with what is added to their weights (Gemma: 1),
    and the modules that give back what each layer's neurons say to the residual stream.
    """

    model: Any
    hidden: int
    intermediate: int
    places: tuple[Place, ...]
    norms: dict[str, tuple[Any, float]]
    downs: tuple[Any, ...]


def shape_of(model: Any) -> Shape:
    """The model's two widths, and where they are.

    Raises:
        Refused: a parameter that has no place in a decoder of Llama's shape, one that is missing, or norms of another
            kind than RMSNorm.
    """
    hidden, intermediate = (getattr(model.config, f"{name}_size", None) for name in ("hidden", "intermediate"))
    if not isinstance(hidden, int) or not isinstance(intermediate, int):
        raise _other(model, "its config has no `hidden_size` and `intermediate_size` that hold for every layer")
    sizes: dict[Width | None, int] = {"hidden": hidden, "intermediate": intermediate}
    places = tuple(_place(model, name, parameter, sizes) for name, parameter in model.named_parameters())
    layers = layers_of(model)
    _refuse_missing(model, {place.name for place in places}, len(layers))
    owners = [place.name.removesuffix(".weight") for place in places if place.widths == ("hidden",)]
    norms = {name: model.get_submodule(name) for name in owners if name.endswith("norm")}
    added = {name: (norm, _added(model, name, norm, hidden)) for name, norm in norms.items()}
    return Shape(model, hidden, intermediate, places, added, tuple(layer.mlp.down_proj for layer in layers))


def _place(model: Any, name: str, parameter: Any, sizes: dict[Width | None, int]) -> Place:
    found = _WHERE.fullmatch(name)
    known, inside = (_LAYER, found["inside"]) if found else (_AROUND, name)
    for pattern, widths in known:
        wanted = [sizes.get(width, size) for width, size in zip(widths, parameter.shape, strict=False)]
        if re.fullmatch(pattern, inside) and len(widths) == parameter.dim() and wanted == list(parameter.shape):
            return Place(name, parameter, int(found["layer"]) if found else None, widths)
    what = next((f", {told}" for pattern, told in _KNOWN if pattern.search(name)), "")
    raise _other(model, f"`{name}` of {' x '.join(map(str, parameter.shape))} has no place in it{what}")


def _refuse_missing(model: Any, names: set[str], layers: int) -> None:
    """Layers that share a matrix have it once; a norm without weights is none that can be narrowed."""
    for layer in range(layers):
        start = f"model.layers.{layer}."
        own = {name.removeprefix(start) for name in names if name.startswith(start)}
        for missing in sorted(_NEEDED - own):
            raise _other(model, f"layer {layer} has no `{missing}` of its own")
        if not any("." not in name.removesuffix(".weight") for name in own):
            raise _other(model, f"layer {layer} has no norms with weights")
    if "model.norm.weight" not in names:
        raise _other(model, "it has no `model.norm.weight`")


def _added(model: Any, name: str, norm: Any, width: int) -> float:
    """What the norm adds to its weights: seen in what it gives for numbers so large that its epsilon is nothing."""
    import torch

    with torch.inference_mode():
        given = torch.linspace(1e3, 2e3, width)
        said, plain = norm(given), given / given.square().mean().sqrt()
        for added in (0.0, 1.0):
            if torch.allclose(said, plain * (norm.weight + added), rtol=1e-3, atol=1e-5):
                return added
    raise _other(model, f"`{name}`, {type(norm).__name__}, is no RMSNorm")


def _other(model: Any, why: str) -> Refused:
    return Refused(f"{type(model).__name__} is not of Llama's shape: {why}", _WAY_OUT)
