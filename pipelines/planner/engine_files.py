"""The settings file of each serving engine, under the engine's own option names.

Checked by tests against vLLM 0.8.5's and TensorRT-LLM's documented options, SGLang 0.5.23's argument fields, and the
settings classes of llama-cpp-python's server, which are installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import JsonValue

from pipelines.errors import UserError
from pipelines.planner.answer import Plan

Settings = dict[str, JsonValue]
CHUNK_TOKENS = 2048
CACHE_BYTES = 2 << 30
DRAFTED = 4
GPU_LAYERS_ALL = -1


def write(plan: Plan, model: str, folder: Path) -> list[Path]:
    """Write the file of every engine that the plan's format can be served by; their paths, the chosen one's first.

    Raises:
        UserError: the plan serves nothing.
    """
    if not plan.serve or plan.chosen is None:
        raise UserError("this plan serves nothing: there are no settings to write", plan.stop)
    engines = ("llama.cpp",) if plan.chosen.option.format.gguf else ("vllm", "sglang", "tensorrt-llm")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = plan.chosen.option.engine
    return [_written(plan, model, engine, folder) for engine in sorted(engines, key=lambda name: name != chosen)]


def _written(plan: Plan, model: str, engine: str, folder: Path) -> Path:
    suffix = "json" if engine == "llama.cpp" else "yaml"
    path = folder / f"{engine}.{suffix}"
    path.write_text(text(plan, model, engine, path), encoding="utf-8")
    return path


def text(plan: Plan, model: str, engine: str, path: Path) -> str:
    """The file's text; YAML opens with the command that takes it."""
    found = settings(plan, model, engine)
    if engine == "llama.cpp":
        return json.dumps(found, indent=1) + "\n"
    launch = LAUNCH[engine].format(path=path, model=model)
    return f"# {launch}\n{yaml.safe_dump(found, sort_keys=False)}"


def settings(plan: Plan, model: str, engine: str) -> Settings:
    """The engine's options by their own names."""
    return {key: value for key, value in WRITERS[engine](plan, model).items() if value is not None}


LAUNCH = {
    "vllm": "vllm serve --config {path}",
    "sglang": "python -m sglang.launch_server --config {path}",
    "tensorrt-llm": "trtllm-serve {model} --extra_llm_api_options {path}",
}


def _vllm(plan: Plan, model: str) -> Settings:
    serve = plan.serve
    found: Settings = {
        "model": model,
        "dtype": serve.get("dtype"),
        "tensor-parallel-size": serve["tensor_parallel_size"],
        "data-parallel-size": serve["replicas"] if serve["replicas"] != 1 else None,
        "gpu-memory-utilization": serve["gpu_memory_utilization"],
        "max-model-len": serve["max_model_len"],
        "max-num-seqs": serve["max_num_seqs"],
        "kv-cache-dtype": serve["kv_cache_dtype"],
        "enable-prefix-caching": serve["enable_prefix_caching"],
        "enable-chunked-prefill": serve["enable_chunked_prefill"],
        "quantization": _vllm_quantization(serve["quantization"]),
    }
    if "max_loras" in serve:
        found |= {
            "enable-lora": True,
            "max-loras": serve["max_loras"],
            "max-lora-rank": serve["max_lora_rank"],
            "max-cpu-loras": serve["max_cpu_loras"],
        }
    if plan.chosen and plan.chosen.option.speculative:
        found["speculative-config"] = json.dumps({"method": "ngram", "num_speculative_tokens": DRAFTED})
    return found


def _vllm_quantization(method: JsonValue) -> JsonValue:
    """W8A8 checkpoints say what they are; vLLM reads it from their config."""
    return method if method in {"awq", "gptq"} else None


def _sglang(plan: Plan, model: str) -> Settings:
    serve = plan.serve
    found: Settings = {
        "model-path": model,
        "dtype": serve.get("dtype"),
        "tp-size": serve["tensor_parallel_size"],
        "dp-size": serve["replicas"],
        "mem-fraction-static": serve["gpu_memory_utilization"],
        "context-length": serve["max_model_len"],
        "max-running-requests": serve["max_num_seqs"],
        "kv-cache-dtype": "fp8_e5m2" if serve["kv_cache_dtype"] == "fp8" else "auto",
        "chunked-prefill-size": CHUNK_TOKENS,
        "disable-radix-cache": True if not serve["enable_prefix_caching"] else None,
        "quantization": {"awq": "awq", "gptq": "gptq", "int8-w8a8": "w8a8_int8", "fp8-w8a8": "w8a8_fp8"}.get(
            str(serve["quantization"])
        ),
    }
    if "max_loras" in serve:
        found |= {
            "enable-lora": True,
            "max-loras-per-batch": serve["max_loras"],
            "max-lora-rank": serve["max_lora_rank"],
            "max-loaded-loras": serve["max_cpu_loras"],
        }
    if plan.chosen and plan.chosen.option.speculative:
        found |= {"speculative-algorithm": "NGRAM", "speculative-num-draft-tokens": DRAFTED}
    return found


def _tensorrt_llm(plan: Plan, model: str) -> Settings:
    """The model is the command's argument; replicas are processes behind a router."""
    del model
    serve = plan.serve
    found: Settings = {
        "tensor_parallel_size": serve["tensor_parallel_size"],
        "max_batch_size": serve["max_num_seqs"],
        "max_seq_len": serve["max_model_len"],
        "enable_chunked_prefill": serve["enable_chunked_prefill"],
        "kv_cache_config": {
            "enable_block_reuse": serve["enable_prefix_caching"],
            "free_gpu_memory_fraction": serve["gpu_memory_utilization"],
            "dtype": serve["kv_cache_dtype"],
        },
    }
    if "max_loras" in serve:
        found["lora_config"] = {
            "max_lora_rank": serve["max_lora_rank"],
            "max_loras": serve["max_loras"],
            "max_cpu_loras": serve["max_cpu_loras"],
        }
    return found


def _llama_cpp(plan: Plan, model: str) -> Settings:
    """For `python -m llama_cpp.server --config_file`."""
    serve = plan.serve
    kind = "cpu" if plan.hardware_kind == "cpu" else "gpu"
    one: Settings = {
        "model": model,
        "model_alias": plan.model,
        "n_ctx": serve["max_model_len"],
        "n_gpu_layers": GPU_LAYERS_ALL if kind == "gpu" else 0,
        "cache": bool(serve["enable_prefix_caching"]),
        "cache_size": CACHE_BYTES,
        "draft_model": "prompt-lookup-decoding" if plan.chosen and plan.chosen.option.speculative else None,
    }
    models: list[JsonValue] = [{key: value for key, value in one.items() if value is not None}]
    return {"host": "127.0.0.1", "port": 8080, "models": models}


WRITERS: dict[str, Callable[[Plan, str], Settings]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt-llm": _tensorrt_llm,
    "llama.cpp": _llama_cpp,
}
