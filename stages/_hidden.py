"""Hidden states and attention of a student against those of its teacher, layer by layer, as both run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.base import Refused


@dataclass(frozen=True)
class HiddenLoss:
    """`pairs` are (student's layer, teacher's layer), 0 the embedding; `projections` one a pair, or none.

    Mean squared error of hidden states over the teacher's mean square, and of attention probabilities (Jiao et al.
    2020, TinyBERT), so that a weight says the same for any model. Attention is compared head by head; where one has
    more heads than the other, the mean over each one's heads is, since none of them is another's counterpart.
    """

    student: Any
    teacher: Any
    pairs: tuple[tuple[int, int], ...]
    projections: Any
    hidden: float
    attention: float

    def __call__(self, given: Any, **named: Any) -> tuple[Any, Any]:
        """The student's logits for these tokens, and the weighted loss."""
        ours, theirs = self.run(given, **named)
        loss: Any = 0.0
        if self.hidden:
            loss = loss + self.hidden * self._of_states(ours.hidden_states, theirs.hidden_states)
        if self.attention:
            loss = loss + self.attention * self._of_attentions(ours.attentions, theirs.attentions)
        return ours.logits, loss

    def run(self, given: Any, **named: Any) -> tuple[Any, Any]:
        """What the student says of these tokens, and the teacher."""
        import torch

        asked = {**named, "use_cache": False, "output_hidden_states": True, "output_attentions": self.attention > 0}
        with torch.no_grad():
            theirs = self.teacher(given, **asked)
        return self.student(given, **asked), theirs

    def _of_states(self, ours: Any, theirs: Any) -> Any:
        parts = [
            ((self._projected(number, ours[mine]) - theirs[its]) ** 2).mean() / (theirs[its] ** 2).mean()
            for number, (mine, its) in enumerate(self.pairs)
        ]
        return sum(parts) / len(parts)

    def _of_attentions(self, ours: Any, theirs: Any) -> Any:
        pairs = [_by_heads(ours[mine - 1], theirs[its - 1]) for mine, its in self.pairs if mine and its]
        return sum(((each - other) ** 2).mean() for each, other in pairs) / len(pairs)

    def _projected(self, number: int, states: Any) -> Any:
        return states if self.projections is None else self.projections[number](states)


def between(
    student: Any, teacher: Any, pairs: tuple[tuple[int, int], ...], weights: tuple[float, float], given: Any
) -> HiddenLoss:
    """The loss with the projections that the models' own outputs need, as they are for a few tokens, shape (1, n).

    Raises:
        Refused: layers that give no hidden state or no attention, or attention to other numbers of places.
    """
    import torch

    loss = HiddenLoss(student, teacher, pairs, None, *weights)
    with torch.no_grad():
        ours, theirs = loss.run(given)
    if loss.attention:
        _refuse_missing("attention", student, teacher, ours.attentions, theirs.attentions, 0)
        for mine, its in ((mine - 1, its - 1) for mine, its in pairs if its):
            _refuse_other_places(mine, ours.attentions[mine], its, theirs.attentions[its])
    if not loss.hidden:
        return loss
    _refuse_missing("hidden", student, teacher, ours.hidden_states, theirs.hidden_states, 1)
    states = [(ours.hidden_states[mine], theirs.hidden_states[its]) for mine, its in pairs]
    return replace(loss, projections=projections([(mine.shape[-1], its.shape[-1]) for mine, its in states]))


def paired(layers: int, teacher_layers: int, kept: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """Which layer's output each of the student's is held against: that of the layer it was, else evenly spaced."""
    if kept is not None and len(kept) == layers and max(kept) < teacher_layers:
        return tuple((index + 1, place + 1) for index, place in enumerate(kept))
    return tuple((index, round(index * teacher_layers / layers)) for index in range(1, layers + 1))


def projections(widths: Sequence[tuple[int, int]]) -> Any:
    """A Linear a pair from the student's width to the teacher's; None where all are the same."""
    import torch

    if all(mine == its for mine, its in widths):
        return None
    return torch.nn.ModuleList(torch.nn.Linear(*pair, bias=False) for pair in widths)


def _by_heads(mine: Any, its: Any) -> tuple[Any, Any]:
    """Attention of shape (windows, heads, length, length), with as many heads on either side."""
    if mine.shape[1] == its.shape[1]:
        return mine, its
    return mine.mean(1, keepdim=True), its.mean(1, keepdim=True)


def _refuse_missing(name: str, student: Any, teacher: Any, ours: Any, theirs: Any, further: int) -> None:
    """Convolutions and state spaces give no attention; what is left would be another layer's."""
    for whose, model, found in (("student", student, ours), ("teacher", teacher, theirs)):
        there = sum(each is not None for each in found or ())
        if there != (wanted := model.config.num_hidden_layers + further):
            raise Refused(
                f"`{name}`: the {whose}, {type(model).__name__}, gives it for {there} of {wanted} layers",
                f"set `{name}: 0`; `logits` takes any two models of one vocabulary",
            )


def _refuse_other_places(mine: int, ours: Any, its: int, theirs: Any) -> None:
    if ours.shape[2:] != theirs.shape[2:]:
        raise Refused(
            f"`attention`: the student's layer {mine} gives it in the shape {tuple(ours.shape)}, the teacher's layer "
            f"{its} in {tuple(theirs.shape)}: they look at other places",
            "set `attention: 0`",
        )
