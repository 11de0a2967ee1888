"""The calibration inputs and training examples that a config names, as a stage gets them."""

from __future__ import annotations

from stages._examples import Examples
from stages._inputs import Inputs, load
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
    given = context.inputs.get(name)
    if given is not None and given.kind != "examples":
        raise Refused(f"`{stage}` takes labelled images, and `data: {name}:` holds {given.kind}", "name images")
    found = examples(context, name)
    if found is None or not len(found):
        raise _nothing(stage, name)
    return found


def inputs(context: Context) -> Inputs | None:
    """What `data: calibration:` gives a model of arrays, where the config names something."""
    given = context.inputs.get(INPUT)
    return load(given.path) if given else None


def required_inputs(context: Context, stage: str) -> Inputs:
    """The same; raises as `required` does."""
    found = inputs(context)
    if found is None or not len(found):
        raise _nothing(stage, INPUT)
    return found


def _nothing(stage: str, name: str) -> Refused:
    looks = "looks at real inputs" if name == INPUT else "trains on labelled examples"
    return Refused(f"`{stage}` {looks}, and there are none", f"name `data: {name}:`")
