"""The NVIDIA device of this machine through the driver's own library: no CUDA toolkit, no package."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._cuda import without_cuda
from stages.base import Refused

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR

Array = NDArray[np.generic]


class Driver:
    """libcuda and the first device."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise Refused(f"there is no NVIDIA driver here: {error}", "open the engine where there is one") from error
        self._call("cuInit", ctypes.c_uint(0))
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))

    def capability(self) -> str:
        """The device's compute capability, such as 8.9."""
        found = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), self._device)
            found.append(value.value)
        return f"{found[0]}.{found[1]}"

    def enter(self) -> None:
        """Make the primary context current, the one that TensorRT uses; everything below needs it."""
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def allocate(self, size_bytes: int) -> int:
        """Address of that much memory on the device."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, addresses: Sequence[int]) -> None:
        """Give memory back."""
        for address in addresses:
            self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def to_device(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device, and wait for it."""
        source = array.ctypes.data_as(ctypes.c_void_p)
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes))

    def to_host(self, array: Array, address: int) -> None:
        """Fill a contiguous array from the device, and wait for it."""
        target = array.ctypes.data_as(ctypes.c_void_p)
        self._call("cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))

    def stream(self) -> int:
        """A stream of its own; the default one would make TensorRT synchronize more than it has to."""
        made = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(made), ctypes.c_uint(0))
        return made.value or 0

    def synchronize(self, stream: int) -> None:
        """Wait until the stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def close(self, stream: int) -> None:
        """Give back the stream and the context."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise Refused(
                f"the NVIDIA driver failed: {name} gave {self._name(status)}", "nvidia-smi says what is wrong"
            )

    def _name(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(ctypes.c_int(status), ctypes.byref(text))
        return (text.value or str(status).encode()).decode()


@cache
def device_capability() -> str | None:
    """Compute capability of the first NVIDIA device, None where there is none that works. Loads no toolchain."""
    if without_cuda():
        return None
    try:
        return Driver().capability()
    except Refused:
        return None
