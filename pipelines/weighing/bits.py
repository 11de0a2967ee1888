"""Bits a weight: what a model's files hold for its weights, scales and zero points included, over their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.weighing.checkpoint import of_checkpoint
from pipelines.weighing.onnx_file import of_onnx
from pipelines.weighing.openvino_file import of_openvino
from stages._gguf_header import find, read
from stages.base import Artifact, Refused


def bits_a_weight(artifact: Artifact) -> float | None:
    """Measured from the headers alone; None for a kind that has no such weights, or a file that cannot be read.

    Weights that are tied, and stored twice, count twice.
    """
    of = _OF_KIND.get(artifact.kind)
    if of is None:
        return None
    try:
        bits, weights = of(artifact.path)
    except (Refused, OSError, ValueError, KeyError):
        return None
    return bits / weights if weights else None


def _of_gguf(folder: Path) -> tuple[int, float]:
    tensors = read(find(folder)).tensors
    return 8 * sum(each.size for each in tensors), sum(each.elements for each in tensors)


_OF_KIND: dict[str, Callable[[Path], tuple[int, float]]] = {
    "gguf": _of_gguf,
    "hf": of_checkpoint,
    "onnx": of_onnx,
    "onnx_llm": of_onnx,
    "openvino": of_openvino,
    "openvino_llm": of_openvino,
}
