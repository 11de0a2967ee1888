"""Accuracy-aware back-off: the layers that quantization hurts most go back to float, worst first, until it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from stages._onnx_graph import Graph
from stages._onnx_judge import Judge, Judged
from stages.base import Context, Frozen, Refused

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ABSORBED = ("Relu", "Clip")  # an activation that a quantized layer takes over
Quantize = Callable[[Sequence[str]], Any]
"""The quantized ModelProto with the nodes of these names left in float."""


class BackOff(Frozen):
    """Layers return to float until the limits hold on the judging examples, or too much would be float."""

    max_float_fraction: float = Field(
        0.2, ge=0, le=1, description="greatest share of the layers (Conv, Gemm, MatMul) that may return to float"
    )
    min_agreement: float | None = Field(
        None,
        gt=0,
        le=1,
        description="least share of the float model's top-1 answers that must stay, or mean cosine of embeddings; by "
        "default the `min` that the config's budget on top1_agreement or cosine_agreement asks for",
    )
    min_sqnr_db: float | None = Field(
        None, description="least ratio of signal to quantization noise in the output; for models that are no classifier"
    )

    def refuse_without_limit(self) -> None:
        """Refuse a back-off that nothing would ever stop."""
        if self.min_agreement is None and self.min_sqnr_db is None:
            raise Refused(
                "`back_off` has no limit to reach",
                "name a budget on top1_agreement with `min`, or set `back_off: {min_agreement: 0.97}`",
            )

    def holds(self, judged: Judged) -> bool:
        """Whether every limit that is set is kept."""
        agrees = self.min_agreement is None or judged.agreement >= self.min_agreement
        return agrees and (self.min_sqnr_db is None or judged.sqnr_db >= self.min_sqnr_db)


@dataclass(frozen=True)
class Layer:
    """A layer, and the share of the layers' weights that it holds."""

    name: str
    operator: str
    weights: float


@dataclass(frozen=True)
class Backed:
    """The model that came out, and what led to it; `layers` counts those that could have returned to float."""

    model: Any
    layers: int
    plain: Judged
    ranking: tuple[tuple[Layer, Judged], ...]
    steps: tuple[tuple[Layer, Judged], ...]
    reached: bool

    @property
    def final(self) -> Judged:
        """Of the model that came out."""
        return self.steps[-1][1] if self.steps else self.plain

    @property
    def float_layers(self) -> list[str]:
        """What returned to float, in the order in which it did."""
        return [layer.name for layer, _ in self.steps]


def backed_off(
    graph: Graph, quantize: Quantize, exclude: Sequence[str], judge: Judge, how: BackOff, context: Context
) -> Backed:
    """Quantize everything but `exclude`; where that is not enough, rank the layers and return the worst to float.

    A layer's sensitivity is the output's SQNR with that layer alone quantized.
    """
    model, found = quantize(exclude), layers(graph, exclude)
    plain = judge(model)
    if how.holds(plain):
        return Backed(model, len(found), plain, (), (), reached=True)
    ranking = _ranked(graph, found, quantize, judge, context)
    most, steps, judged = int(how.max_float_fraction * len(found) + 1e-9), list[tuple[Layer, Judged]](), plain
    for number, (layer, _) in enumerate(ranking[:most], 1):
        model = quantize([*exclude, *(each.name for each, _ in steps), layer.name])
        judged = judge(model)
        steps.append((layer, judged))
        context.progress(number, most, f"returning {layer.name} to float")
        if how.holds(judged):
            break
    return Backed(model, len(found), plain, ranking, tuple(steps), how.holds(judged))


def layers(graph: Graph, exclude: Sequence[str]) -> list[Layer]:
    """What can be returned to float, in the graph's order."""
    nodes = [node for node in graph.proto.node if node.op_type in LAYERS and node.name not in exclude]
    sizes = [_size(graph, node) for node in nodes]
    whole = sum(sizes) or 1
    return [Layer(node.name, node.op_type, size / whole) for node, size in zip(nodes, sizes, strict=True)]


def _size(graph: Graph, node: Any) -> int:
    weight = graph.weight(node, 1)
    return 0 if weight is None else weight.size


def _ranked(
    graph: Graph, found: Sequence[Layer], quantize: Quantize, judge: Judge, context: Context
) -> tuple[tuple[Layer, Judged], ...]:
    """The most sensitive first."""
    alone, every = [], [node.name for node in graph.proto.node]
    for number, layer in enumerate(found, 1):
        kept = {layer.name, *_absorbed(graph, layer.name)}
        alone.append((layer, judge(quantize([name for name in every if name not in kept]))))
        context.progress(number, len(found), f"sensitivity of {layer.name}")
    return tuple(sorted(alone, key=lambda entry: entry[1].sqnr_db))


def _absorbed(graph: Graph, name: str) -> Iterable[str]:
    node = next(node for node in graph.proto.node if node.name == name)
    users = graph.consumers.get(node.output[0], [])
    return [user.name for user in users if len(users) == 1 and user.op_type in _ABSORBED]
