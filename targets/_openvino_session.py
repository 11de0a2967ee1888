"""An OpenVINO model as an ArraySession."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages._openvino_model import tensor_name
from stages.base import Refused
from targets.base import Arrays


class OpenvinoSession:
    """A compiled model. With `parallel` requests a batch is cut into as many parts, which run at the same time."""

    def __init__(self, compiled: Any, parallel: int) -> None:
        self._model = compiled
        self._requests = [compiled.create_infer_request() for _ in range(parallel)]
        self._inputs = tuple(tensor_name(port) for port in compiled.inputs)
        self._outputs = tuple(tensor_name(port) for port in compiled.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that `run` takes, in the model's order."""
        return self._inputs

    def run(self, inputs: Arrays) -> Arrays:
        """Arrays by input name in, arrays by output name out, in the model's order.

        Raises:
            Refused: an array has a shape or name that the model does not take.
        """
        if set(inputs) != set(self._inputs):  # a request would quietly take the arrays of the call before
            raise self._not_taken(inputs)
        try:
            if len(self._requests) > 1 and len(inputs[self._inputs[0]]) > 1:
                return self._in_parts([inputs[name] for name in self._inputs])
            found = self._requests[0].infer(inputs, share_inputs=True)
        except RuntimeError as error:
            raise self._not_taken(inputs) from error
        return dict(zip(self._outputs, found.to_tuple(), strict=True))

    def close(self) -> None:
        """Give back the memory."""
        self._requests, self._model = [], None

    def _in_parts(self, inputs: list[Any]) -> Arrays:
        parts = min(len(self._requests), len(inputs[0]))
        cut = [np.array_split(each, parts) for each in inputs]
        running = self._requests[:parts]
        for index, request in enumerate(running):
            request.start_async([each[index] for each in cut], share_inputs=True)
        for request in running:
            request.wait()
        every = [[request.get_output_tensor(index).data for request in running] for index in range(len(self._outputs))]
        return {name: np.concatenate(pieces) for name, pieces in zip(self._outputs, every, strict=True)}

    def _not_taken(self, inputs: Arrays) -> Refused:
        taken = ", ".join(
            f"{tensor_name(port)} {port.get_partial_shape()} {port.get_element_type().to_dtype()}"
            for port in self._model.inputs
        )
        given = ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in inputs.items())
        return Refused(f"the model takes {taken}; it was given {given or 'nothing'}", "see `data: preprocess:`")
