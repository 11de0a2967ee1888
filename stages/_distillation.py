"""What a student is told by its teacher: the divergence between their answers, and between their hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from stages.base import Frozen

TEACHER = "teacher"
Direction = Literal["forward", "reverse"]
_LEAST = 1e-6  # probability of all the answers that are not kept


class Weights(Frozen):
    """Of each part of the loss; a part of weight 0 is not computed."""

    logits: float
    labels: float
    hidden: float
    attention: float


@dataclass(frozen=True)
class Said:
    """A teacher's most likely answers: `ids` and log-probabilities at the temperature, both of shape (n, k)."""

    ids: Any
    logp: Any


def said(logits: Any, top_k: int, temperature: float) -> Said:
    """What is kept of logits of shape (n, classes): the `top_k` most likely, or all of them where there are no more."""
    import torch

    logp = torch.log_softmax(logits.float() / temperature, -1)
    kept = logp.topk(min(top_k, logits.shape[-1]), -1)
    return Said(kept.indices, kept.values)


def divergence(logits: Any, teacher: Said, temperature: float, direction: Direction) -> Any:
    """Mean KL divergence in nats between teacher and student, times temperature^2 (Hinton et al. 2015).

    `forward` is KL(teacher || student), `reverse` KL(student || teacher). Answers that were not kept count as one:
    the divergence of such sums is never more than that of the whole.
    """
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    student = scaled.gather(-1, teacher.ids) - scaled.logsumexp(-1, keepdim=True)
    ours, theirs = student, teacher.logp
    if teacher.ids.shape[-1] < logits.shape[-1]:
        ours, theirs = _with_rest(student), _with_rest(teacher.logp)
    first, second = (theirs, ours) if direction == "forward" else (ours, theirs)
    return (first.exp() * (first - second)).sum(-1).mean() * temperature**2


def _with_rest(logp: Any) -> Any:
    import torch

    rest = (1 - logp.exp().sum(-1, keepdim=True)).clamp_min(_LEAST)
    return torch.cat([logp, rest.log()], -1)
