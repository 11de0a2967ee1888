"""Outputs of layers inside a torch module against those of its teacher's layers, as both run on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stages._torch_model import outputs
from stages.base import Refused

_NAMED = 8  # layers in a message


@dataclass(frozen=True)
class FeatureLoss:
    """`layers` maps the student's layers to the teacher's; `projections` a Linear each over channels, or None.

    Hidden: squared error over the teacher's mean square. Attention: squared error of the maps of squared channel sums,
    each of length 1 (Zagoruyko & Komodakis 2017).
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
            _, ours, theirs = made.run(sample)
        widths = [(ours[mine].shape[1], theirs[its].shape[1]) for mine, its in layers.items()]
        linears = torch.nn.ModuleList(torch.nn.Linear(*pair, bias=False) for pair in widths)
        return cls(student, teacher, layers, linears, *weights)

    def __call__(self, shown: Any) -> tuple[Any, Any]:
        """The student's scores for these images, and the weighted loss."""
        scores, ours, theirs = self.run(shown)
        parts = [
            self._of(ours[mine], theirs[its], linear)
            for (mine, its), linear in zip(self.layers.items(), self.projections, strict=True)
        ]
        return scores, sum(parts) / len(parts)

    def run(self, shown: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """The student's scores, and the layers' outputs of both by name."""
        import torch

        with _outputs_of(self.teacher, list(self.layers.values())) as theirs, torch.no_grad():
            self.teacher(shown)
        with _outputs_of(self.student, list(self.layers)) as ours:
            scores = next(iter(outputs(self.student(shown)).values()))
        return scores, ours, theirs

    def _of(self, mine: Any, its: Any, linear: Any) -> Any:
        loss: Any = 0.0
        if self.hidden:
            seen = linear(mine.movedim(1, -1)).movedim(-1, 1)
            loss = loss + self.hidden * ((seen - its) ** 2).mean() / (its**2).mean()
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
