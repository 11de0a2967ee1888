"""Which calibration examples NNCF sees, and whether they fit the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._calibration import required_inputs
from stages._inputs import Feed, Inputs, first
from stages._openvino_model import tensor_name
from stages.base import Context, Refused

Rows = NDArray[np.int64]


def chosen(context: Context, stage: str, calibrate: int, held_out: int) -> tuple[Inputs, Rows, Rows]:
    """The calibration examples, the rows to calibrate on and those held out; the two share none.

    Raises:
        Refused: the config names no calibration examples, or too few.
    """
    examples = required_inputs(context, stage)
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


def refuse_unfit(model: Any, examples: Inputs) -> None:
    """Refuse examples of another shape than the model takes, and inputs that nothing fills."""
    given = first(examples, 1, input_names(model))
    for port in model.inputs:
        shape, taken = given[tensor_name(port)].shape, port.get_partial_shape()
        dimensions = list(taken)
        fits = len(dimensions) == len(shape) and all(
            each.is_dynamic or each.get_length() == size for each, size in zip(dimensions, shape, strict=True)
        )
        if not fits:
            raise Refused(
                f"the model takes {tensor_name(port)} {taken}; a calibration example is {list(shape)}",
                "see `layout` in `data: preprocess:`; the first axis must be a dynamic batch",
            )


def input_names(model: Any) -> tuple[str, ...]:
    """Of an openvino.Model, or of a compiled one, in its order."""
    return tuple(tensor_name(port) for port in model.inputs)


def reader(examples: Inputs, names: Sequence[str], total: int, context: Context) -> Callable[[int], Feed]:
    """A function from a row to a batch of one by input names, which tells how many of `total` were read.

    Rows are read as they are asked for, so that memory does not grow with their number.
    """
    read = 0

    def batch(row: int) -> Feed:
        nonlocal read
        read += 1
        context.progress(min(read, total), total, examples.what)
        return examples.feed(np.array([row]), names)

    return batch
