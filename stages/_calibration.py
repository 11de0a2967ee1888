"""The calibration and training examples that a config names, as a stage gets them."""

from __future__ import annotations

from stages._examples import Examples
from stages.base import Context, Refused

INPUT, TRAINING = "calibration", "training"


def examples(context: Context, name: str = INPUT) -> Examples | None:
    """The examples of `data: NAME:`, where the config names some."""
    given = context.inputs.get(name)
    return Examples.load(given.path) if given else None


def required(context: Context, stage: str, name: str = INPUT) -> Examples:
    """The examples of `data: NAME:`.

    Raises:
        Refused: the config names none.
    """
    found = examples(context, name)
    if found is None or not len(found):
        looks = "looks at real inputs" if name == INPUT else "trains on labelled examples"
        raise Refused(f"`{stage}` {looks}, and there are none", f"name `data: {name}:`")
    return found
