"""Outputs of layers inside a torch module against those of its teacher's layers, as both run on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stages._calls import HERE, Calls
from stages._torch_model import outputs
from stages.base import Refused

_NAMED = 8  # layers in a message


@dataclass(frozen=True)
class Heard:
    """The teacher's `outputs` in one call of a step, by layer, and their mean `squares` over all of its calls."""

    outputs: Mapping[str, Any]
    squares: Mapping[str, Any]


@dataclass(frozen=True)
class FeatureLoss:
    """`layers` maps the student's layers to the teacher's; `projections` a Linear each over channels, or None.

    Hidden: squared error over the teacher's mean square in the step, however many calls that has. Attention: squared
    error of the maps of squared channel sums, each of length 1 (Zagoruyko & Komodakis 2017).
    """

    student: Any
    teacher: Any
    layers: Mapping[str, str]
    projections: Any
    hidden: float
    attention: float

    @classmethod
    def between(
        cls, student: Any, teacher: Any, layers: Mapping[str, str], sample: Any, weights: tuple[float, float]
    ) -> FeatureLoss:
        """With the projections that the widths of the layers need.

        Raises:
            Refused: no layer of that name.
        """
        import torch

        _refuse_unknown(student, layers.keys(), "student")
        _refuse_unknown(teacher, layers.values(), "teacher")
        made = cls(student, teacher, layers, None, *weights)
        with torch.no_grad():
            ours, theirs = made.run(sample)
        widths = [(ours[mine].shape[1], theirs[its].shape[1]) for mine, its in layers.items()]
        linears = torch.nn.ModuleList(torch.nn.Linear(*pair, bias=False) for pair in widths)
        return cls(student, teacher, layers, linears, *weights)

    def heard(self, parts: Sequence[Any], calls: Calls) -> list[Heard]:
        """What the teacher's layers say of the images of each call of a step."""
        there = [self._of_teacher(shown, calls) for shown in parts]
        shares = [len(shown) / sum(map(len, parts)) for shown in parts]
        squares = {
            its: sum((each[its].float() ** 2).mean() * share for each, share in zip(there, shares, strict=True))
            for its in (self.layers.values() if self.hidden else ())
        }
        return [Heard(each, squares) for each in there]

    def __call__(self, shown: Any, heard: Heard, calls: Calls) -> tuple[Any, Any]:
        """The student's scores for the images of a call, and the weighted loss."""
        scores, ours = self._of_student(shown, calls)
        parts = [
            self._of(ours[mine].float(), heard.outputs[its].float(), heard.squares.get(its), linear)
            for (mine, its), linear in zip(self.layers.items(), self.projections, strict=True)
        ]
        return scores, sum(parts) / len(parts)

    def run(self, shown: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layers' outputs of both by name, where both are on the CPU."""
        theirs = self._of_teacher(shown, HERE)
        return self._of_student(shown, HERE)[1], theirs

    def _of_teacher(self, shown: Any, calls: Calls) -> dict[str, Any]:
        import torch

        with _outputs_of(self.teacher, list(self.layers.values())) as found, torch.no_grad():
            calls.of(self.teacher, shown)
        return found

    def _of_student(self, shown: Any, calls: Calls) -> tuple[Any, dict[str, Any]]:
        with _outputs_of(self.student, list(self.layers)) as found:
            scores = next(iter(outputs(calls.of(self.student, shown)).values()))
        return scores, found

    def _of(self, mine: Any, its: Any, square: Any, linear: Any) -> Any:
        loss: Any = 0.0
        if self.hidden:
            seen = linear(mine.movedim(1, -1)).movedim(-1, 1)
            loss = loss + self.hidden * ((seen - its) ** 2).mean() / square
        if self.attention:
            loss = loss + self.attention * ((_map(mine) - _map(its)) ** 2).sum(-1).mean()
        return loss


def _map(features: Any) -> Any:
    import torch

    return torch.nn.functional.normalize((features**2).sum(1).flatten(1), dim=-1)


@contextmanager
def _outputs_of(module: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    layers = dict(module.named_modules())

    def hook_of(name: str) -> Any:
        return lambda _module, _inputs, output: found.update({name: output})

    hooks = [layers[name].register_forward_hook(hook_of(name)) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_unknown(module: Any, names: Any, whose: str) -> None:
    known = [name for name, _ in module.named_modules() if name]
    for name in names:
        if name not in known:
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            raise Refused(f"`layers`: the {whose} has no `{name}`", f"it has {', '.join(known[:_NAMED])}{more}")
