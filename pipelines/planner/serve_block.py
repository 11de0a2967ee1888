"""The serving settings that follow from an option, under vLLM's names; `engine_files` writes each engine's own."""

from __future__ import annotations

from pydantic import JsonValue

from pipelines.planner.case import Case, Option, adapter_slots, context_length
from pipelines.planner.prediction import Prediction

HOST_ADAPTERS = 1000
NO_BF16 = 8.0  # compute capability from which on there is BF16, which engines take unless told otherwise


def settings(case: Case, option: Option, found: Prediction) -> dict[str, JsonValue]:
    """The `serve:` block of a plan."""
    work = case.work
    block: dict[str, JsonValue] = {
        "engine": option.engine,
        "tensor_parallel_size": option.split,
        "replicas": option.replicas,
        "gpu_memory_utilization": case.limits.memory_share,
        "max_model_len": context_length(case, found.room_bytes),
        "max_num_seqs": max(1, min(found.concurrency, found.batch)),
        "quantization": option.format.method if not option.format.gguf else option.format.gguf,
        "kv_cache_dtype": "fp8" if option.kv_bits == 8 else "auto",
        "enable_prefix_caching": option.prefix_cache or work.adapters > 1,
        "enable_chunked_prefill": option.paged and not case.edge,
    }
    if (case.hardware.compute_capability or NO_BF16) < NO_BF16:
        block["dtype"] = "float16"
    if work.adapters > 1:
        block |= {
            "max_loras": adapter_slots(work),
            "max_lora_rank": work.rank,
            "max_cpu_loras": min(HOST_ADAPTERS, work.adapters),
            "routing": "adapter affinity: a customer's requests to the replica that holds its adapters",
        }
    return block
