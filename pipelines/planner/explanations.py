"""What each lever usually brings, costs and needs (PLANNER.md's tables), for `tapeout plan --explain`."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.errors import UserError
from pipelines.mistakes import did_you_mean


class Explained(NamedTuple):
    """One lever in general."""

    name: str
    when: str
    gain: str
    quality: str
    needs: str
    stop: str


LEVERS = {
    "V1": Explained(
        "native runtime",
        "a CNN or an encoder",
        "1.5-3x (TensorRT)",
        "about 0",
        "NVIDIA: TensorRT; Intel: OpenVINO; Android: LiteRT; Apple: Core ML; else ONNX Runtime",
        "-",
    ),
    "V2": Explained("fusion, folding", "always", "1.2-1.5x", "0", "exportable operators", "goals met"),
    "V3": Explained(
        "FP16, then INT8",
        "a gap remains",
        "1.5-2x",
        "INT8 -1 to -3% unless calibrated well",
        "FP16: GPU, ANE; INT8: VNNI, AMX, NPU, with calibration, then QAT",
        "goals met or quality budget spent",
    ),
    "V4": Explained(
        "structured pruning",
        "gap <= 2x and half of the quality budget left",
        "1.3-2x",
        "low to medium",
        "fine-tuning",
        "the gate fails",
    ),
    "V5": Explained("distillation", "more than 2x is needed", "2-10x", "low to medium", "a teacher, data", "-"),
    "L1": Explained(
        "GGUF and llama.cpp, prompt cache",
        "no GPU",
        "bytes a token, 3.5x at Q4_K_M",
        "+0.1-0.3 perplexity on large models, more on small ones",
        "a ladder measured on this model: it need not be monotone",
        "goals met",
    ),
    "L2": Explained(
        "smallest legal tensor parallelism that fits",
        "a GPU",
        "capacity; 8B at 2/4/8: 1.45/1.88/2.2x on A100",
        "0",
        "H%t=0, KV heads and groups divide; NVLink",
        "N >= needed",
    ),
    "L3a": Explained(
        "INT4 weights, AWQ or GPTQ, groups of 128",
        "capacity, or bandwidth and B <= 32",
        "2.5-3.5x at B=1; 0.49-0.66x of BF16 at about 100 requests",
        "+0.1-0.3 perplexity",
        "TP-legal groups; AWQ goes by activation_magnitude, GPTQ by inverse_hessian; loses where arithmetic binds",
        "goals met without it: keep BF16",
    ),
    "L3b": Explained(
        "8-bit weights and activations",
        "compute or prefill binds",
        "1.5-2x by the peak; measured 1.25x (FP8, H100), 1.32x (INT8, A100)",
        "FP8 about 0, INT8 -1 to -3%",
        "FP8: sm89 and later; INT8: sm75-sm86 and calibration against activation_outliers",
        "goals met without it: keep BF16",
    ),
    "L4": Explained(
        "paged KV, continuous batching, chunked prefill",
        "more than one user",
        "2-5x throughput; 2-4x batch",
        "0",
        "a server",
        "-",
    ),
    "L5": Explained(
        "prefix cache",
        "s/P >= 0.2",
        "1.5-5x",
        "0",
        "identical tokens, the same adapter; SGLang from 0.6 on, else vLLM",
        "hit rate < 20%",
    ),
    "L6": Explained(
        "8-bit KV cache, shorter max_len",
        "KV takes more than half of the room and N is short",
        "up to 2x sequences",
        "gate it",
        "a backend; on A100 storage only",
        "N met",
    ),
    "L7": Explained(
        "speculative decoding",
        "TBT missed, B <= 16, acceptance >= 0.6",
        "2-3x latency",
        "the same distribution, not the same bits",
        "a draft of the same vocabulary",
        "verification costs v > 1.5",
    ),
    "L8": Explained(
        "replicas; more TP only for TBT or TTFT over NVLink",
        "GPUs left",
        "linear in requests",
        "0",
        "a router",
        "goals met",
    ),
    "L9": Explained("TensorRT-LLM", "gap <= 25% and a frozen model", "kappa 0.85 -> 1", "about 0", "fixed GPU", "< 5%"),
    "L10": Explained(
        "multi-LoRA on one BF16 base",
        "more than one adapter",
        "one base in place of N",
        "0",
        "allowed ranks; affinity routing; +2 ms a token",
        "-",
    ),
    "L11": Explained(
        "cost: smallest passing model, bits, batch, fewest GPUs, spot",
        "the objective is cost",
        "$ a token",
        "by gate",
        "prices, which are assumptions",
        "deadline met",
    ),
}


def explained(lever: str) -> Explained:
    """The lever of that id.

    Raises:
        UserError: there is none.
    """
    known = {name.lower(): item for name, item in LEVERS.items()}
    if lever.lower() not in known:
        raise UserError(f"no lever `{lever}`", did_you_mean(lever, LEVERS) or f"known: {', '.join(LEVERS)}")
    return known[lever.lower()]
