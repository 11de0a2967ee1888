"""Triton Inference Server's model repository around a bundle's model: config.pbtxt, and links to the files.

The first axis of every tensor is the batch, which Triton leaves out of `dims`; another dynamic axis is -1
(model_config.proto of triton-inference-server/common).
"""

from __future__ import annotations

from pydantic import JsonValue

from stages._tokenizer import FILE as TOKENIZER
from stages.base import Artifact

TYPES = {
    "float32": "TYPE_FP32", "float": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64",
    "int8": "TYPE_INT8", "uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "bool": "TYPE_BOOL",
}  # fmt: skip
"""numpy's and ONNX's names, and Triton's."""
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
MAX_BATCH, RTX_TITLE = 64, "TensorRT for RTX"
NUMBER = "dims: [1] reshape { shape: [] }"
"""A number an example: Triton takes no empty dims."""
RTX = """# The engines are TensorRT for RTX's. The stock server's `tensorrt` backend opens those of the full TensorRT:
# these need a backend that is built against TensorRT for RTX.
"""
ACCELERATED = 'optimization { execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }\n'


def repository(artifact: Artifact, name: str) -> dict[str, str]:
    """config.pbtxt by its path in the bundle: names and types of the tensors, dynamic batching, and the engine a GPU.

    A model with a fixed batch is served as it is: requests are not put together then.
    """
    most = _most(artifact)
    tensors = "".join(_tensors(side, artifact.facts.get(f"{side}s"), most > 0) for side in ("input", "output"))
    batching = "dynamic_batching { max_queue_delay_microseconds: 100 }\n" if most else ""
    text = (
        f'name: "{name}"\nbackend: "{BACKENDS[artifact.kind]}"\nmax_batch_size: {most}\n{tensors}{batching}'
        f"instance_group [ {{ kind: {'KIND_GPU' if _on_gpu(artifact) else 'KIND_CPU'} }} ]\n"
    )
    if artifact.facts.get("provider") == "tensorrt":
        text += ACCELERATED
    if artifact.kind == "tensorrt":
        text = f"{_whose(artifact)}{text}cc_model_filenames [ {_by_capability(artifact)} ]\n"
    return {f"triton/{name}/config.pbtxt": text}


def links(artifact: Artifact, name: str) -> dict[str, str]:
    """Where Triton looks for the model's files, and where they lie from there."""
    files = {engine: engine for engine in _engines(artifact).values()}
    if artifact.kind == "openvino":
        files = {"model.xml": "openvino.xml", "model.bin": "openvino.bin"}
    if artifact.kind == "onnx":
        onnx = onnx_file(artifact)
        others = {onnx, TOKENIZER}
        beside = [path.name for path in artifact.path.iterdir() if path.is_file() and path.name not in others]
        files = {"model.onnx": onnx} | {file: file for file in beside}  # weights that the .onnx file names
    return {f"triton/{name}/1/{wanted}": f"../../../{file}" for wanted, file in files.items()}


def onnx_file(artifact: Artifact) -> str:
    """The name of the artifact's .onnx file."""
    return next(path.name for path in sorted(artifact.path.glob("*.onnx")))


def _whose(artifact: Artifact) -> str:
    """The comment that engines of TensorRT for RTX need."""
    return RTX if RTX_TITLE in str(artifact.facts.get("tensorrt", RTX_TITLE)) else ""


def _on_gpu(artifact: Artifact) -> bool:
    return artifact.kind == "tensorrt" or artifact.facts.get("provider") in ("cuda", "tensorrt")


def _most(artifact: Artifact) -> int:
    """The greatest batch, 0 where the model fixes it."""
    shapes = [shape for shape, _ in _described(artifact.facts.get("inputs")).values()]
    if any(not shape or isinstance(shape[0], int) for shape in shapes):
        return 0
    profile = artifact.facts.get("profile")
    greatest = profile[-1] if isinstance(profile, list) and profile else None
    return int(greatest[0]) if isinstance(greatest, list) and isinstance(greatest[0], int) else MAX_BATCH


def _described(facts: JsonValue) -> dict[str, tuple[list[JsonValue], str]]:
    found: dict[str, tuple[list[JsonValue], str]] = {}
    for name, tensor in facts.items() if isinstance(facts, dict) else ():
        shape = tensor["shape"] if isinstance(tensor, dict) else []
        dtype = tensor["dtype"] if isinstance(tensor, dict) else ""
        found[name] = (shape if isinstance(shape, list) else [], str(dtype))
    return found


def _tensors(side: str, facts: JsonValue, batched: bool) -> str:
    found = []
    for name, (shape, dtype) in _described(facts).items():
        dims = [size if isinstance(size, int) else -1 for size in shape[int(batched) :]]
        shaped = f"dims: {dims}" if dims else NUMBER
        found.append(f'  {{ name: "{name}" data_type: {TYPES[dtype]} {shaped} }}')
    return f"{side} [\n" + ",\n".join(found) + "\n]\n"


def _engines(artifact: Artifact) -> dict[str, str]:
    """Engine files by compute capability."""
    engines = artifact.facts.get("engines")
    known = engines.items() if isinstance(engines, dict) else ()
    return {capability: str(engine["file"]) for capability, engine in known if isinstance(engine, dict)}


def _by_capability(artifact: Artifact) -> str:
    pairs = (f'{{ key: "{name}" value: "{file}" }}' for name, file in _engines(artifact).items())
    return ", ".join(pairs)
