"""Which channels of a torch module go, by torch-pruning's dependency graph (Fang et al. 2023, arXiv:2301.12900)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any, Literal

from stages.base import Frozen, Refused

Importance = Literal["magnitude", "taylor"]
_NAMED = 8  # layers in a message


class Cut(Frozen):
    """How much is cut, by what measure, and where."""

    ratio: float
    importance: Importance
    scope: Literal["layer", "global"]
    round_to: int
    exclude: tuple[str, ...]


def cut(module: Any, sample: Any, how: Cut, gradients: Callable[[], None]) -> None:
    """Remove channels in place. `sample` is one batch; `gradients` leaves those of the loss in the weights.

    Layers that give the module's output keep their channels.

    Raises:
        Refused: nothing can be cut, a name in `exclude` fits no layer, or the graph cannot be followed.
    """
    import torch_pruning

    excluded = _excluded(module, how.exclude)
    graph = _traced(module, sample)
    kept = [*excluded, *_giving_output(graph), *_too_narrow(module, how.round_to)]
    if how.importance == "taylor":
        gradients()
    try:
        torch_pruning.BasePruner(
            module,
            sample,
            importance=_measure(how.importance),
            global_pruning=how.scope == "global",
            pruning_ratio=how.ratio,
            round_to=how.round_to,
            ignored_layers=kept,
            # its defaults are dictionaries that all pruners share
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        ).step()
    except IndexError as error:
        raise Refused(
            f"torch-pruning does not find the channels of every layer again: {error}",
            "`exclude` the layers whose sizes the module's code counts on",
        ) from error
    module.zero_grad(set_to_none=True)


def _measure(importance: Importance) -> Any:
    """Group L2 norm of the weights, or |weight * gradient|, the first-order change of the loss (Molchanov 2019)."""
    import torch_pruning

    measures = torch_pruning.importance
    return measures.GroupMagnitudeImportance(p=2) if importance == "magnitude" else measures.GroupTaylorImportance()


def _traced(module: Any, sample: Any) -> Any:
    import torch_pruning

    try:
        return torch_pruning.DependencyGraph().build_dependency(module, example_inputs=sample)
    except (RuntimeError, ValueError, AttributeError, KeyError, AssertionError) as error:
        raise Refused(
            f"torch-pruning cannot follow the module: {type(error).__name__}: {error}",
            "it follows tensors through autograd: no control flow on values, and an output that has a gradient",
        ) from error


def _giving_output(graph: Any) -> list[Any]:
    """Layers in whose group the module's output stands: a class is no channel that may go."""
    import torch_pruning

    output = torch_pruning.ops.OPTYPE.OUTPUT
    groups = [list(group) for group in graph.get_all_groups()]
    return [group[0].dep.target.module for group in groups if any(member.dep.target.type == output for member in group)]


def _too_narrow(module: Any, round_to: int) -> list[Any]:
    """A layer of fewer channels than the multiple would be rounded to none."""
    return [layer for layer in module.modules() if 0 < _width(layer) <= round_to]


def _width(layer: Any) -> int:
    return int(getattr(layer, "out_channels", getattr(layer, "out_features", 0)))


def _excluded(module: Any, patterns: Sequence[str]) -> list[Any]:
    layers = dict(module.named_modules())
    found = {name: layers[name] for pattern in patterns for name in layers if name and fnmatch(name, pattern)}
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in found):
            wide = [name for name, layer in layers.items() if _width(layer)]
            more = f" and {len(wide) - _NAMED} more" if len(wide) > _NAMED else ""
            raise Refused(f"`exclude`: the module has no layer `{pattern}`", f"it has {', '.join(wide[:_NAMED])}{more}")
    return list(found.values())
