"""How a bundle is served: one script for every kind of artifact that has a server."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from pipelines import predicting, predicting_texts, triton
from pipelines.llm_servers import llama_cpp, onnx, openvino, vllm
from pipelines.records import RunRecord
from stages._examples import Preprocess
from stages._onnx_llm import KIND as ONNX_LLM
from stages._openvino_llm import KIND as OPENVINO_LLM
from stages.base import Artifact


def serve_script(artifact: Artifact) -> str | None:
    """A POSIX shell script that serves the artifact from the folder it lies in, or None for a kind without a server."""
    write = SCRIPTS.get(artifact.kind)
    return write(artifact) if write else None


def companions(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """Texts, by their path in the bundle, with which the artifact serves without Tapeout."""
    if beside := BESIDE.get(artifact.kind):
        return beside(artifact, record)
    if artifact.kind not in triton.BACKENDS:
        return {}
    return _program(artifact, record) | triton.repository(artifact, record.name)


def _program(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """predict.py and what it needs, for texts or for images."""
    if embeddings := record.evaluation.get("embeddings"):
        every = {name: version for stage in record.stages for name, version in stage.tool_versions.items()}
        length = embeddings["length"] if isinstance(embeddings, dict) else 0
        return predicting_texts.program(artifact, int(str(length)), every)
    data = yaml.safe_load(record.config_text).get("data", {})
    preprocess = Preprocess.model_validate(data.get("preprocess", {}))
    return predicting.program(artifact, preprocess, record.stages[-1].tool_versions)


def links_of(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """Symbolic links of the bundle: where a server looks for the model, and where it lies from there."""
    return triton.links(artifact, record.name) if artifact.kind in triton.BACKENDS else {}


SCRIPTS: dict[str, Callable[[Artifact], str | None]] = {
    "gguf": llama_cpp.serve_script,
    OPENVINO_LLM: openvino.serve_script,
    ONNX_LLM: onnx.serve_script,
    "hf": vllm.serve_script,
}
BESIDE: dict[str, Callable[[Artifact, RunRecord], dict[str, str]]] = {
    OPENVINO_LLM: openvino.companions,
    ONNX_LLM: onnx.companions,
    "hf": vllm.companions,
}
