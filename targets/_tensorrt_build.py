"""Building engines: parser, profile and builder of either TensorRT. For RTX no GPU takes part.

What the full TensorRT does otherwise: it builds for the GPU that is there, times kernels and keeps what it timed, and
describes an engine through its inspector. None of that ran: the libraries and a GPU were never where this was written.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from stages.base import Refused
from targets._tensorrt_inspect import Inspected, inspected
from targets._tensorrt_library import FULL, RTX, Library

Batches = tuple[int, int, int]
_QDQ_HINT = "TensorRT needs a graph of its own: `quantize_tensorrt`, on the float model"


class Built(NamedTuple):
    """An engine's bytes, what is inside, the seconds that it took, and the timings of kernels, empty for RTX."""

    engine: bytes
    inside: Inspected
    seconds: float
    timings: bytes = b""


def logger(library: Library = RTX) -> Any:
    """A logger that keeps what TensorRT says as `messages`, and what it warns of goes to standard error, too."""
    trt = library.bindings()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]  # the package has no types
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))
            if severity <= trt.ILogger.Severity.INFO:
                sys.stderr.write(f"[TensorRT {severity.name.lower()}] {message}\n")

    return Logger()


def built(file: Path, opset: int, capability: str, batches: Batches, threads: int, library: Library = RTX) -> Built:
    """Build one engine with every type as the graph has it; for `FULL` the capability is this machine's own.

    Raises:
        Refused: the parser or the builder refuses the graph; both are quoted.
    """
    trt, log, begin = library.bindings(), logger(library), time.perf_counter()
    builder = trt.Builder(log)
    builder.max_threads = threads
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(file, opset, network, log, library)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or nothing is said of the layers
    cache = _timing_cache(config) if library is FULL else None
    if library is RTX:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)
    _add_profile(builder, config, network, batches)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _not_built(log.errors, capability, library)
    inside = inspected(log.messages if library is RTX else [_described(bytes(engine), log, library)])
    if inside is None:
        raise RuntimeError(f"{library.title} built an engine and described no layer of it")
    return Built(bytes(engine), inside, time.perf_counter() - begin, _timings(config) if cache is not None else b"")


def _timing_cache(config: Any) -> Any:
    """An empty one, attached; it has to live as long as the builder works, and the config does not hold it."""
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _timings(config: Any) -> bytes:
    """What `create_timing_cache` takes to build the same kernels again without timing them."""
    return bytes(config.get_timing_cache().serialize())


def _described(engine: bytes, log: Any, library: Library) -> str:
    """Layers and tensors as the inspector has them on a line each, which is how TensorRT for RTX logs them."""
    trt = library.bindings()
    opened = trt.Runtime(log).deserialize_cuda_engine(engine)
    return str(opened.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.ONELINE))


def _parse(file: Path, opset: int, network: Any, log: Any, library: Library) -> None:
    parser = library.bindings().OnnxParser(network, log)
    if not parser.parse_from_file(str(file)):
        raise _not_parsed(parser, opset, f"{library.title} {library.version()}")


def _not_parsed(parser: Any, opset: int, library: str) -> Refused:
    error = parser.get_error(0)
    operator, node = error.node_operator(), error.node_name()
    if operator and not parser.supports_operator(operator):
        return Refused(
            f"{library} has no operator {operator} of opset {opset}, node `{node}`",
            "rewrite the model without it, or leave this target out: `onnxruntime` runs it",
        )
    said = " ".join(error.desc().split())
    at = f" at node `{node}` ({operator})" if operator else ""
    hint = _QDQ_HINT if "Quantize" in operator else "export the model again, or with another opset"
    return Refused(f"{library} cannot read the graph{at}: {said}", hint)


def _not_built(errors: list[str], capability: str, library: Library) -> Refused:
    said = errors[-1] if errors else "it does not say why"
    hint = "the whole log says what it was doing"
    if "FP32 GEMM is not supported" in said:
        hint = f"{capability} multiplies no float32 matrices: put `quantize_tensorrt` before, with float16 for the rest"
    elif "Quantize" in said or "Int32" in said or "shiftIsAllZeros" in said:
        hint = _QDQ_HINT
    return Refused(f"{library.title} cannot build for compute capability {capability}: {said}", hint)


def _add_profile(builder: Any, config: Any, network: Any, batches: Batches) -> None:
    """Let the batch be what the config says; every other axis has to be fixed."""
    profile, dynamic = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise Refused(
                f"axis {shape.index(-1, 1)} of the input `{tensor.name}` is dynamic, and only the batch may be",
                "export the model with fixed sizes",
            )
        if shape and shape[0] == -1:
            dynamic = True
            profile.set_shape(tensor.name, *((batch, *shape[1:]) for batch in batches))
    if dynamic:
        config.add_optimization_profile(profile)
