"""What bundles of language models are served with, kind by kind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_server_schema import parsed
from samples import CONFIG, DIGESTS, run_record

from pipelines.bundle import check_files, package, serve_command
from pipelines.llm_servers.vllm import method_of
from pipelines.records import RunRecord, StageRecord
from stages.base import Artifact

VERSIONS = {"openvino": "2026.4.1", "openvino-genai": "2026.4.1.0", "onnxruntime-genai": "0.18.0"}
CAUSAL = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}


def made_by(*stages: StageRecord) -> RunRecord:
    record = run_record()
    last = record.stages[-1].model_copy(update={"tool_versions": VERSIONS})
    return record.model_copy(update={"stages": (*record.stages[:-1], *stages, last)})


def bundled(folder: Path, kind: str, files: dict[str, Any], record: RunRecord | None = None, **facts: Any) -> Path:
    """A packaged model of that kind, as far as packaging looks at it."""
    model = folder / "artifact"
    model.mkdir()
    for name, content in files.items():
        (model / name).write_text(content if isinstance(content, str) else json.dumps(content))
    artifact = Artifact(kind=kind, path=model, digest=DIGESTS["quantize_gguf"], facts=facts)
    bundle = package(record or made_by(), artifact, folder / "dist", CONFIG)
    assert check_files(bundle) == []
    return bundle


def tool(path: Path, body: str = 'echo "$0 $@"') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def serve(bundle: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/bin:/bin"} | environment
    return subprocess.run(
        [str(bundle / "serve.sh"), *arguments], env=given, capture_output=True, text=True, check=False
    )


def test_openvino_model_comes_with_a_graph_that_the_model_server_reads(tmp_path: Path) -> None:
    bundle = bundled(tmp_path, "openvino_llm", {"openvino_model.xml": "", "config.json": {}})
    graph, options = parsed((bundle / "ovms" / "graph.pbtxt").read_text())
    config = json.loads((bundle / "ovms" / "config.json").read_text())

    assert (bundle / "ovms" / options.models_path).resolve() == bundle
    assert graph.node[0].calculator == "HttpLLMCalculator"
    assert graph.input_stream == ["HTTP_REQUEST_PAYLOAD:input"]
    assert options.device == "CPU"
    assert config == {"model_config_list": [], "mediapipe_config_list": [{"name": "smol-q6k", "base_path": "./"}]}


def test_openvino_model_is_served_with_the_settings_that_it_was_measured_with(tmp_path: Path) -> None:
    step = StageRecord(index=3, stage="openvino_llm", fields={"inference_precision": "bf16", "kv_cache": "u8"})
    bundle = bundled(tmp_path, "openvino_llm", {"openvino_model.xml": ""}, made_by(step), context_length=8192)
    wanted = {
        "INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "u8", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"
    }  # fmt: skip
    _, options = parsed((bundle / "ovms" / "graph.pbtxt").read_text())

    assert json.loads(options.plugin_config) == wanted
    assert json.loads((bundle / "serve.json").read_text()) == {**wanted, "context_length": 8192}


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("openvino_llm", ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers"]),
        ("onnx_llm", ["onnxruntime", "onnxruntime-genai==0.18.0"]),
    ],
)
def test_a_bundle_carries_a_server_that_needs_no_tapeout(tmp_path: Path, kind: str, needed: list[str]) -> None:
    bundle = bundled(tmp_path, kind, {"model.onnx": ""})
    programs = [(bundle / name).read_text() for name in ("serve.py", "openai_server.py")]

    for text in programs:
        compile(text, "serve.py", "exec")
        assert "pipelines" not in text
    assert "from openai_server import" in programs[0]
    assert (bundle / "requirements.txt").read_text().split() == needed


@pytest.mark.parametrize(("kind", "env"), [("openvino_llm", "openvino_llm"), ("onnx_llm", "onnx_llm")])
def test_its_server_runs_in_the_environment_of_the_clone(tmp_path: Path, kind: str, env: str) -> None:
    bundle = bundled(tmp_path, kind, {"model.onnx": ""})
    python = tool(tmp_path / "envs" / "python", 'echo "$@"')
    tool(tmp_path / ".venv/bin/tapeout", f'[ "$*" = "envs python {env}" ] && echo {python}')

    ended = serve(bundle, "--threads", "2", PORT="9000")

    assert ended.stdout.strip() == f"{bundle}/serve.py --port 9000 --name {bundle.name} --threads 2"


def test_openvino_model_is_served_by_the_model_server_where_there_is_one(tmp_path: Path) -> None:
    bundle = bundled(tmp_path, "openvino_llm", {"openvino_model.xml": ""})
    ovms = tool(tmp_path / "bin/ovms")

    ended = serve(bundle, PATH=f"{ovms.parent}:/usr/bin:/bin")

    options = "--rest_port 8080 --rest_bind_address 127.0.0.1"
    assert ended.stdout.strip() == f"{ovms} --config_path {bundle}/ovms/config.json {options}"


@pytest.mark.parametrize("kind", ["openvino_llm", "onnx_llm"])
def test_without_any_server_it_says_the_way_out(tmp_path: Path, kind: str) -> None:
    ended = serve(bundled(tmp_path, kind, {"model.onnx": ""}))

    assert ended.returncode == 3
    assert "found\nhint: install " in ended.stderr


@pytest.mark.parametrize(
    ("quantization", "method"),
    [
        (GPTQ, "gptq_marlin"),
        (GPTQ | {"bits": 8, "group_size": -1}, "gptq_marlin"),
        (GPTQ | {"sym": False}, "gptq"),
        (GPTQ | {"bits": 3}, "gptq"),
        (GPTQ | {"group_size": 256}, "gptq"),
        (AWQ, "awq_marlin"),
        (AWQ | {"zero_point": False}, "awq"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
    ],
)
def test_vllm_is_told_the_kernels_that_suit_the_checkpoint(quantization: dict[str, Any], method: str) -> None:
    assert method_of(quantization) == method


def test_checkpoint_comes_with_a_launch_file_for_vllm(tmp_path: Path) -> None:
    bundle = bundled(tmp_path, "hf", {"config.json": CAUSAL | {"quantization_config": GPTQ}})
    text = (bundle / "vllm.yaml").read_text()
    vllm = tool(tmp_path / "bin/vllm")

    ended = serve(bundle, "--max-num-seqs", "8", PATH=f"{vllm.parent}:/usr/bin:/bin")

    assert text.splitlines()[0] == "# smol-q6k in vLLM, from this folder: vllm serve . --config vllm.yaml"
    assert yaml.safe_load(text) == {"quantization": "gptq_marlin", "dtype": "auto", "max-model-len": 2048}
    assert ended.stdout.strip() == (
        f"{vllm} serve {bundle} --config {bundle}/vllm.yaml --served-model-name {bundle.name} "
        "--host 127.0.0.1 --port 8080 --max-num-seqs 8"
    )


def test_float_checkpoint_names_no_quantization(tmp_path: Path) -> None:
    bundle = bundled(tmp_path, "hf", {"config.json": CAUSAL})

    assert yaml.safe_load((bundle / "vllm.yaml").read_text()) == {"dtype": "auto", "max-model-len": 2048}


def test_an_encoder_is_no_language_model_to_serve(tmp_path: Path) -> None:
    bundle = bundled(tmp_path, "hf", {"config.json": {"architectures": ["BertModel"]}})

    assert serve_command(bundle) is None
    assert not (bundle / "vllm.yaml").exists()
