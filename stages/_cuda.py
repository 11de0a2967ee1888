"""Whether there is an NVIDIA device, asked without importing a toolchain."""

from __future__ import annotations

from pathlib import Path

DEVICE_NODES = (Path("/dev/nvidiactl"), Path("/dev/nvidia0"), Path("/dev/dxg"))  # the last is Windows' Linux


def without_cuda() -> str | None:
    """Why nothing can run on CUDA here, or None."""
    if any(node.exists() for node in DEVICE_NODES):
        return None
    return f"there is no NVIDIA device here ({', '.join(map(str, DEVICE_NODES))})"


def unavailable_device(device: str) -> str | None:
    """Why a stage cannot run with `device:` as it is set, or None."""
    if device == "cuda" and (reason := without_cuda()):
        return f"`device: cuda`, and {reason}; set `device: cpu`"
    return None
