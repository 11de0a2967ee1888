"""An engine on the device that it was built for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.base import Refused
from targets._tensorrt_build import logger
from targets._tensorrt_device import Array, Driver
from targets._tensorrt_library import RTX, Library
from targets._tensorrt_manifest import Manifest
from targets.base import Arrays


class TensorrtSession:
    """An engine of either TensorRT. A batch beyond the engine's profile is run in parts."""

    def __init__(self, file: Path, manifest: Manifest, driver: Driver, library: Library = RTX) -> None:
        self._manifest, self._driver = manifest, driver
        driver.enter()
        self._log = logger(library)
        self._engine = _deserialized(file, self._log, library)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise Refused(f"{file.name} does not run here: {_last(self._log)}", "free memory of the device")
        self._stream = driver.stream()
        self._buffers: dict[str, tuple[int, int]] = {}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that `run` takes, in the model's order."""
        return tuple(tensor.name for tensor in self._manifest.inputs)

    def run(self, inputs: Arrays) -> Arrays:
        """Arrays by input name in, arrays by output name out, in the model's order.

        Raises:
            Refused: an array has a name or a shape that the engine does not take.
        """
        if set(inputs) != set(self.input_names):
            raise Refused(f"the engine takes {', '.join(self.input_names)}, given {', '.join(inputs)}", "")
        batch, most = len(next(iter(inputs.values()))), self._manifest.max_batch
        if most is None or batch <= most:
            return self._once(inputs)
        starts = range(0, batch, most)
        parts = [self._once({name: value[at : at + most] for name, value in inputs.items()}) for at in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Give back the device's memory."""
        self._context = self._engine = None
        self._driver.free([address for address, _ in self._buffers.values()])
        self._buffers = {}
        self._driver.close(self._stream)

    def _once(self, inputs: Arrays) -> dict[str, Array]:
        for tensor in self._manifest.inputs:
            array = np.ascontiguousarray(inputs[tensor.name], dtype=tensor.dtype)
            if not self._context.set_input_shape(tensor.name, array.shape):
                raise Refused(f"`{tensor.name}` is {list(array.shape)}, the engine takes {list(tensor.shape)}", "")
            self._driver.to_device(self._bound(tensor.name, array.nbytes), array)
        outputs = {tensor.name: self._empty(tensor.name, tensor.dtype) for tensor in self._manifest.outputs}
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError(f"TensorRT could not run the engine: {_last(self._log)}")
        self._driver.synchronize(self._stream)
        for name, array in outputs.items():
            self._driver.to_host(array, self._buffers[name][0])
        return outputs

    def _empty(self, name: str, dtype: str) -> Array:
        """An array for an output whose shape follows from the inputs', with device memory to match."""
        array: Array = np.empty(tuple(self._context.get_tensor_shape(name)), dtype=dtype)
        self._bound(name, array.nbytes)
        return array

    def _bound(self, name: str, size_bytes: int) -> int:
        """Address of at least so much device memory for a tensor; kept between calls."""
        address, held = self._buffers.get(name, (0, 0))
        if held < size_bytes:
            self._driver.free([address] if held else [])
            address = self._driver.allocate(max(size_bytes, 1))
            self._buffers[name] = (address, size_bytes)
        self._context.set_tensor_address(name, address)
        return address


def _deserialized(file: Path, log: Any, library: Library) -> Any:
    trt, raw = library.bindings(), file.read_bytes()
    runtime = trt.Runtime(log)
    if library is RTX:  # the other has nothing like it, and says why in its log
        _refuse_invalid(file, raw, runtime, trt, log)
    engine = runtime.deserialize_cuda_engine(raw)
    if engine is None:
        raise Refused(f"{library.title} cannot open {file.name}: {_last(log)}", "build it again")
    return engine


def _refuse_invalid(file: Path, raw: bytes, runtime: Any, trt: Any, log: Any) -> None:
    validity, why = runtime.get_engine_validity(raw[: runtime.engine_header_size])
    if validity == trt.EngineValidity.INVALID:
        flags = [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if why & int(flag)]
        raise Refused(f"{file.name} is of no use here: {', '.join(flags) or _last(log)}", "build it again")


def _last(log: Any) -> str:
    return log.errors[-1] if log.errors else "TensorRT does not say why"
