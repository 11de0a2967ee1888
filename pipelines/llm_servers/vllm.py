"""Hugging Face checkpoints: vLLM, with the kernels that suit how the weights are quantized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from pipelines.llm_servers.shell import neither, script, where_there_is
from pipelines.records import RunRecord
from stages.base import Artifact

FILE = "vllm.yaml"
USAGE = [
    "  PORT=9000 ./serve.sh [further arguments of vllm serve]",
    "What it is told is in vllm.yaml. Give --host 0.0.0.0 to serve other machines.",
]
COMMAND = """vllm serve "$here" --config "$here/vllm.yaml" --served-model-name "$name" \\
        --host 127.0.0.1 --port "$port" "$@\""""
MARLIN_GROUPS = frozenset({-1, 32, 64, 128})
MARLIN_GPTQ_BITS = frozenset({4, 8})
LONGEST = 8192


def serve_script(artifact: Artifact) -> str | None:
    """serve.sh; None for a folder that holds no causal language model."""
    if not _is_language_model(artifact.path):
        return None
    return script(
        "model.safetensors",
        "vLLM",
        USAGE,
        where_there_is("vllm", COMMAND),
        neither("vllm was not found", "pip install vllm, on a machine with a GPU that it knows"),
    )


def companions(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """vllm.yaml."""
    if not _is_language_model(artifact.path):
        return {}
    context = int(_config(artifact.path).get("max_position_embeddings", LONGEST))
    told: dict[str, JsonValue] = {"dtype": "auto", "max-model-len": min(context, LONGEST)}
    if given := _config(artifact.path).get("quantization_config"):
        told = {"quantization": method_of(given), **told}
    opening = f"# {record.name} in vLLM, from this folder: vllm serve . --config {FILE}\n"
    return {FILE: opening + yaml.safe_dump(told, sort_keys=False)}


def method_of(given: Mapping[str, Any]) -> str:
    """What `--quantization` is for a checkpoint's `quantization_config`.

    `gptq` and `awq` would force the slow kernels on a checkpoint that Marlin's can run, up to the versions that have
    `auto_gptq` and `auto_awq` and take the Marlin names for them. Marlin's for GPTQ have no zero points, those for AWQ
    always have them (gptq_marlin.py and awq_marlin.py of vllm/model_executor/layers/quantization).
    """
    method, grouped = str(given["quant_method"]), given.get("group_size") in MARLIN_GROUPS
    fast = {
        "gptq": grouped and bool(given.get("sym")) and given.get("bits") in MARLIN_GPTQ_BITS,
        "awq": grouped and bool(given.get("zero_point")),
    }
    return f"{method}_marlin" if fast.get(method) else method


def _is_language_model(folder: Path) -> bool:
    return any(str(name).endswith("ForCausalLM") for name in _config(folder).get("architectures") or ())


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
