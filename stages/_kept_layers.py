"""A transformers model that is left some of its layers: which, what its config says of them, and what is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue

from stages._causal_lm import keep_layers
from stages._read_back import refuse_other
from stages.base import Refused


def _ascending(places: tuple[int, ...]) -> tuple[int, ...]:
    if any(after <= before for before, after in pairwise(places)):
        raise ValueError("each layer once, in their order")
    return places


Places = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_ascending)]
"""Layers by number, the first one 0."""


def refuse_not_there(places: Sequence[int], layers: int) -> None:
    """Raise Refused where a model of so many layers lacks one of these, or loses none."""
    if places[-1] >= layers:
        raise Refused(
            f"`layers` names layer {places[-1]}, and the model has {layers}: 0 to {layers - 1}", "name those to keep"
        )
    if len(places) == layers:
        raise Refused(f"the model has {layers} layers: nothing to drop, `layers` names them all", "leave some out")


def at_first(kept: Sequence[int], layers: int, facts: Mapping[str, JsonValue]) -> list[int]:
    """The numbers that these layers had before any was dropped, by what a model knows of its own (`kept_layers`)."""
    before = facts.get("kept_layers")
    if not isinstance(before, list) or len(before) != layers:
        return [*kept]
    return [int(str(before[index])) for index in kept]


def keep_only(model: Any, kept: Sequence[int]) -> None:
    """Leave these layers in place, and of each list in the config that has an entry a layer the entries of these.

    Such are `layer_types`, `no_rope_layers` (SmolLM3), `mlp_layer_types`: the model reads them by a layer's number.
    """
    config = model.config
    each = {name: words for name, words in vars(config).items() if _is_a_layers(name, words, config.num_hidden_layers)}
    keep_layers(model, kept)
    for name, words in each.items():
        setattr(config, name, [words[index] for index in kept])


def _is_a_layers(name: str, words: object, layers: int) -> bool:
    return isinstance(words, list | tuple) and len(words) == layers and not name.endswith("_token_id")


def refuse_other_layers(said: Any, again: Callable[[Path], Any], out: Path, kept: Sequence[int]) -> None:
    """Raise Refused as `refuse_other` does, of a model that these layers are left of."""
    way_out = (
        "its config describes layers by number in a way that is not known here: the first ones keep their numbers, "
        f"`layers: [{', '.join(map(str, range(len(kept))))}]`"
    )
    refuse_other(said, again, out, f"the model of {len(kept)} layers", way_out)
