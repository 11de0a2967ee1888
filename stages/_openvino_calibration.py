"""Which calibration examples NNCF sees, and whether they fit the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._calibration import required
from stages._examples import Examples, Floats
from stages._openvino_model import tensor_name
from stages.base import Context, Refused

Rows = NDArray[np.int64]


def chosen(context: Context, stage: str, calibrate: int, held_out: int) -> tuple[Examples, Rows, Rows]:
    """The calibration examples, the rows to calibrate on and those held out; the two share none.

    Raises:
        Refused: the config names no calibration examples, or too few.
    """
    examples = required(context, stage)
    if len(examples) < calibrate + held_out:
        asked = f"{calibrate} to calibrate on" + (f" and {held_out} to measure the drop on" if held_out else "")
        raise Refused(
            f"`{stage}` asks for {asked}; there are {len(examples)} calibration examples",
            "lower `examples`" + (" or `held_out`" if held_out else "") + ", or give more in `data: calibration:`",
        )
    rows = split_rows(len(examples), calibrate, held_out)
    return examples, *rows


def split_rows(count: int, calibrate: int, held_out: int) -> tuple[Rows, Rows]:
    """Row numbers, both evenly spaced: a set sorted by class then gives every class its share."""
    kept = evenly(np.arange(count, dtype=np.int64), held_out)
    rest = np.setdiff1d(np.arange(count, dtype=np.int64), kept)
    return evenly(rest, calibrate), kept


def evenly(rows: Rows, count: int) -> Rows:
    """`count` of the rows, evenly spaced."""
    return rows[(np.arange(count, dtype=np.int64) * len(rows)) // max(count, 1)]


def refuse_unfit(model: Any, examples: Examples) -> None:
    """Refuse examples of another shape than the model takes, and a model that takes more than one input."""
    if len(model.inputs) != 1:
        raise Refused(
            f"the model takes {len(model.inputs)} inputs: {', '.join(map(tensor_name, model.inputs))}",
            "labelled examples feed models of one input",
        )
    port, given = model.inputs[0], examples.batch(0, 1).shape
    taken = port.get_partial_shape()
    dimensions = list(taken)
    fits = len(dimensions) == len(given) and all(
        each.is_dynamic or each.get_length() == size for each, size in zip(dimensions, given, strict=True)
    )
    if not fits:
        raise Refused(
            f"the model takes {tensor_name(port)} {taken}; a calibration example is {list(given)}",
            "see `layout` in `data: preprocess:`; the first axis must be a dynamic batch",
        )


def reader(examples: Examples, total: int, context: Context, what: str) -> Callable[[int], Floats]:
    """A function from a row to a batch of one, which tells how many of `total` were read.

    Rows are read as they are asked for, so that memory does not grow with their number.
    """
    read = 0

    def batch(row: int) -> Floats:
        nonlocal read
        read += 1
        context.progress(min(read, total), total, what)
        return examples.batch(int(row), int(row) + 1)

    return batch
