"""Whether outputs of a student's layers can be held against those of its teacher's, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages._feature_loss import FeatureLoss
from stages.base import Refused


def refuse_unlike(student: Any, teacher: Any, layers: Mapping[str, str], sample: Any, attention: bool) -> None:
    """Raise Refused where two layers give no tensor each, or tensors that differ in more than their channels.

    `layers` maps the student's to the teacher's; maps of other heights and widths are not made alike, since a smaller
    one of the teacher's own is the next layer's. Layers that are not there are left to `FeatureLoss.between`.
    """
    known = [{name for name, _ in module.named_modules()} for module in (student, teacher)]
    there = {mine: its for mine, its in layers.items() if mine in known[0] and its in known[1]}
    ours, theirs = FeatureLoss(student, teacher, there, None, 0, 0).run(sample)
    for mine, its in there.items():
        first = _shape(ours.get(mine), f"student's `{mine}`", attention)
        second = _shape(theirs.get(its), f"teacher's `{its}`", attention)
        if first[2:] != second[2:]:
            raise Refused(
                f"`layers`: the student's `{mine}` gives {_told(first)} an image, "
                f"the teacher's `{its}` {_told(second)}",
                "hold it to a layer of the same height and width; channels may differ",
            )


def _shape(output: Any, whose: str, attention: bool) -> tuple[int, ...]:
    """Of a layer's output: (images, channels, ...)."""
    import torch

    if output is None:
        raise Refused(f"`layers`: the {whose} is not run", "name a layer that images pass through")
    if not isinstance(output, torch.Tensor):
        raise Refused(
            f"`layers`: the {whose} gives a {type(output).__name__}, and one tensor is compared",
            "name a layer inside it, or behind it, that gives one",
        )
    least = 3 if attention else 2
    if output.dim() < least:
        kind = "no map to attend to" if attention else "no channels"
        raise Refused(f"`layers`: the {whose} gives {_told(output.shape)} an image: {kind}", "name an earlier layer")
    return tuple(output.shape)


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:])) or "one number"
