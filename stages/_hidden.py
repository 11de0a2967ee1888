"""Hidden states and attention of a student against those of its teacher, layer by layer, as both run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HiddenLoss:
    """`pairs` are (student's layer, teacher's layer), 0 the embedding; `projections` one a pair, or none.

    Mean squared error of hidden states over the teacher's mean square, and of attention probabilities (Jiao et al.
    2020, TinyBERT), so that a weight says the same for any model.
    """

    student: Any
    teacher: Any
    pairs: tuple[tuple[int, int], ...]
    projections: Any
    hidden: float
    attention: float

    def __call__(self, given: Any, **named: Any) -> tuple[Any, Any]:
        """The student's logits for these tokens, and the weighted loss."""
        import torch

        asked = {**named, "use_cache": False, "output_hidden_states": True, "output_attentions": self.attention > 0}
        with torch.no_grad():
            theirs = self.teacher(given, **asked)
        ours = self.student(given, **asked)
        loss: Any = 0.0
        if self.hidden:
            loss = loss + self.hidden * self._of_states(ours.hidden_states, theirs.hidden_states)
        if self.attention:
            loss = loss + self.attention * self._of_attentions(ours.attentions, theirs.attentions)
        return ours.logits, loss

    def _of_states(self, ours: Any, theirs: Any) -> Any:
        parts = [
            ((self._projected(number, ours[mine]) - theirs[its]) ** 2).mean() / (theirs[its] ** 2).mean()
            for number, (mine, its) in enumerate(self.pairs)
        ]
        return sum(parts) / len(parts)

    def _of_attentions(self, ours: Any, theirs: Any) -> Any:
        pairs = [(mine - 1, its - 1) for mine, its in self.pairs if mine and its]
        return sum(((ours[mine] - theirs[its]) ** 2).mean() for mine, its in pairs) / len(pairs)

    def _projected(self, number: int, states: Any) -> Any:
        return states if self.projections is None else self.projections[number](states)


def paired(layers: int, teacher_layers: int, kept: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """Which layer's output each of the student's is held against: that of the layer it was, else evenly spaced."""
    if kept is not None and len(kept) == layers:
        return tuple((index + 1, place + 1) for index, place in enumerate(kept))
    return tuple((index, round(index * teacher_layers / layers)) for index in range(1, layers + 1))


def projections(width: int, teacher_width: int, count: int) -> Any:
    """A Linear a pair from the student's width to the teacher's; None where they are the same."""
    import torch

    if width == teacher_width:
        return None
    return torch.nn.ModuleList(torch.nn.Linear(width, teacher_width, bias=False) for _ in range(count))
