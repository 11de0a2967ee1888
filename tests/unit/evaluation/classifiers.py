"""A linear classifier of the weights and the speed of one's choice."""

import time

import numpy as np
from numpy.typing import NDArray

from targets.base import Arrays


class Linear:
    """The sum of pixels times weights of shape (pixels, classes); writes down the batches it saw."""

    def __init__(self, weights: NDArray[np.floating], delay_s: float = 0.0) -> None:
        self.weights, self.delay_s = weights.astype(np.float64), delay_s
        self.batches: list[int] = []
        self.closed = False

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("pixels",)

    def run(self, inputs: Arrays) -> Arrays:
        (pixels,) = inputs.values()
        assert list(inputs) == ["pixels"]
        assert pixels.dtype == np.float32
        self.batches.append(len(pixels))
        time.sleep(self.delay_s)
        return {"logits": pixels.reshape(len(pixels), -1) @ self.weights, "other": pixels}

    def close(self) -> None:
        self.closed = True
