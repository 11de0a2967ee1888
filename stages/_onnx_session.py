"""ONNX Runtime on the CPU: opening a model with every thread accounted for, and saying why it would not open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from stages.base import Refused

Level = Literal["none", "basic", "extended", "all"]
_MISSING = re.compile(r"implementation for (?P<operator>\S+?)\((?P<version>\d+)\) node with name '(?P<node>[^']*)'")


def options(threads: int, level: Level = "all") -> Any:
    """SessionOptions: `threads` workers inside an operator, one operator at a time."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads = threads, 1
    made.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    made.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[level]
    made.log_severity_level = 3
    return made


def opened(file: Path, session_options: Any) -> Any:
    """An InferenceSession.

    Raises:
        Refused: ONNX Runtime cannot load the file; an operator that it lacks is named.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    failures = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel,
        state.NotImplemented, state.RuntimeException,
    )  # fmt: skip
    try:
        return onnxruntime.InferenceSession(str(file), session_options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise _not_opened(file, str(error), onnxruntime.__version__) from error


def _not_opened(file: Path, said: str, version: str) -> Refused:
    missing = _MISSING.search(said)
    if missing is None:
        what = " ".join(said.replace(str(file), file.name).split())
        return Refused(f"ONNX Runtime {version} cannot load {file.name}: {what}", "export the model again")
    return Refused(
        f"ONNX Runtime {version} has no CPU kernel for {missing['operator']} of opset {missing['version']}, "
        f"node `{missing['node']}`, with the types it has there",
        "exclude the operator from quantization, or export with another opset",
    )
