"""ONNX Runtime: opening a model with every thread accounted for, and saying why it would not open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from stages.base import Refused

_PROVIDER, _OPEN_END = "CPUExecutionProvider", 2**31 - 1
Level = Literal["none", "basic", "extended", "all"]
Provider = Literal["cpu", "cuda", "tensorrt"]
CHAINS = {
    "cpu": (_PROVIDER,),
    "cuda": ("CUDAExecutionProvider", _PROVIDER),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", _PROVIDER),
}
"""Each provider and, in order, those that take the operators it lacks."""
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


def opened(file: Path, session_options: Any, provider: Provider = "cpu") -> Any:
    """An InferenceSession.

    Raises:
        Refused: there is no such provider here, or ONNX Runtime cannot load the file; an operator it lacks is named.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    failures = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel,
        state.NotImplemented, state.RuntimeException,
    )  # fmt: skip
    refuse_missing(provider, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(file), session_options, providers=list(CHAINS[provider]))
    except failures as error:
        raise _not_opened(file, str(error), onnxruntime.__version__) from error
    _refuse_fallen_back(provider, session.get_providers())
    return session


def refuse_missing(provider: Provider, available: Sequence[str]) -> None:
    """Refuse a provider that the installed package was built without."""
    if CHAINS[provider][0] not in available:
        raise Refused(
            f"the installed ONNX Runtime has no {CHAINS[provider][0]}, only {', '.join(available)}",
            "`provider: cpu`; for a GPU put `onnxruntime-gpu` in place of `onnxruntime` into envs/onnx.in, then "
            "`make lock ENV=onnx`",
        )


def _refuse_fallen_back(provider: Provider, got: Sequence[str]) -> None:
    """ONNX Runtime runs a model on the CPU, with a warning alone, where a provider's libraries do not load."""
    if CHAINS[provider][0] not in got:
        raise Refused(
            f"ONNX Runtime could not start {CHAINS[provider][0]}, and fell back to {', '.join(got)}",
            "the log names the library that did not load; it needs an NVIDIA driver, CUDA, cuDNN, and for `tensorrt` "
            "the TensorRT libraries",
        )


def _not_opened(file: Path, said: str, version: str) -> Refused:
    missing = _MISSING.search(said)
    if missing is None:
        what = " ".join(said.replace(str(file), file.name).split())
        return Refused(f"ONNX Runtime {version} cannot load {file.name}: {what}", "export the model again")
    return Refused(
        f"ONNX Runtime {version} has no CPU kernel for {missing['operator']} of opset {missing['version']}, "
        f"node `{missing['node']}`, with the types it has there",
        _instead(missing["operator"]),
    )


def _instead(operator: str) -> str:
    """The opsets and types that ONNX Runtime has the operator in."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = sorted(
        (kernel.version_range, sorted({kind for kinds in kernel.type_constraints.values() for kind in kinds}))
        for kernel in state.get_all_opkernel_def()
        if kernel.op_name == operator and kernel.domain in ("", "ai.onnx") and kernel.provider == _PROVIDER
    )
    if not found:
        return "it has one in no opset: export the model with other operators"
    told = [f"opset {_span(*versions)} with {', '.join(kinds) or 'any type'}" for versions, kinds in found]
    return f"it has one in {'; '.join(told)}: export the model with one of these"


def _span(first: int, last: int) -> str:
    if last == _OPEN_END:
        return f"{first} and later"
    return str(first) if first == last else f"{first} to {last}"
