"""The calibration examples that a config names, as a stage gets them."""

from __future__ import annotations

from stages._examples import Examples
from stages.base import Context, Refused

INPUT = "calibration"


def examples(context: Context) -> Examples | None:
    """The calibration examples, where the config names some."""
    given = context.inputs.get(INPUT)
    return Examples.load(given.path) if given else None


def required(context: Context, stage: str) -> Examples:
    """The calibration examples.

    Raises:
        Refused: the config names none.
    """
    found = examples(context)
    if found is None or not len(found):
        raise Refused(f"`{stage}` looks at real inputs, and there are none", "name `data: calibration:`")
    return found
