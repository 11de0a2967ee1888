"""The levers, in their order: which label each attacks, and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.planner.binding import Label
from pipelines.planner.case import Option

ALL: frozenset[Label] = frozenset({"capacity", "bandwidth", "compute", "prefill", "link"})


@dataclass(frozen=True)
class Lever:
    """A change of the option. `toward` gives the current option with the chosen one's setting."""

    id: str
    name: str
    attacks: frozenset[Label]
    reason: str
    toward: Callable[[Option, Option], Option]


def _take(*fields: str) -> Callable[[Option, Option], Option]:
    return lambda now, chosen: now.model_copy(update={field: getattr(chosen, field) for field in fields})


def _format(maths: bool) -> Callable[[Option, Option], Option]:
    """To the chosen format, if it is one of faster arithmetic, or one of fewer bytes alone."""

    def toward(now: Option, chosen: Option) -> Option:
        fits = (chosen.format.maths != "fp16") == maths
        return now.model_copy(update={"format": chosen.format}) if fits and not chosen.format.whole else now

    return toward


EDGE = (
    Lever(
        "L1",
        "GGUF and llama.cpp",
        frozenset({"capacity", "bandwidth", "prefill"}),
        "fewer bytes a token",
        _take("format"),
    ),
    Lever(
        "L1",
        "persistent prompt cache",
        frozenset({"prefill", "bandwidth"}),
        "a cached prefix is not prefilled again",
        _take("prefix_cache"),
    ),
)
_SPACE: frozenset[Label] = frozenset({"capacity", "bandwidth"})
_WORK: frozenset[Label] = frozenset({"compute", "prefill"})
SERVER = (
    Lever("L2", "smallest tensor parallelism that fits", frozenset({"capacity"}), "no link cost", _take("split")),
    Lever("L3a", "INT4 weights, groups of 128", _SPACE, "fewer bytes", _format(maths=False)),
    Lever("L3b", "8-bit weights and activations", _WORK | {"capacity"}, "faster maths", _format(maths=True)),
    Lever("L4", "paged KV, continuous batching, chunked prefill", _SPACE, "free", _take("paged", "batching")),
    Lever("L5", "prefix cache", _WORK, "skips prefill", _take("prefix_cache")),
    Lever("L6", "8-bit KV cache", frozenset({"capacity"}), "twice the sequences", _take("kv_bits")),
    Lever("L7", "speculative decoding", frozenset({"bandwidth"}), "idle compute", _take("speculative")),
    Lever("L8", "replicas", ALL, "replicas beat tensor parallelism", _take("replicas", "split")),
    Lever("L9", "TensorRT-LLM", ALL, "fused engine", _take("engine")),
)
