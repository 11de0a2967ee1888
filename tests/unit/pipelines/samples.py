"""A run as `tapeout run` would leave it: four stages of a small language model, figures out of a real one."""

from __future__ import annotations

from pathlib import Path

from pipelines.budget import Budget, Verdict
from pipelines.measures import DeviceFacts, Interval, Metric, Report, metric
from pipelines.records import DataRecord, RunRecord, StageRecord, Status

DEVICE = DeviceFacts(identity="c0ffee", cpu="Xeon, 2 cores", cores=2, features=("avx2", "avx512_vnni"), memory_gb=16.0)
DIGESTS = {"source": "a" * 64, "import_gguf": "b" * 64, "gguf": "c" * 64, "quantize_gguf": "d" * 64}
CONFIG = """# A small model as Q6_K.
name: smol-q6k
source: {path: ../models/smol, licence: Apache-2.0}
steps: [import_gguf, gguf, {quantize_gguf: {precision: q6_k}}]
data:
  evaluation: {builtin: python-docs, split: evaluation}
budgets:
  - {metric: perplexity, max_regression: 2%}
  - {metric: size_bytes, max: 150 MB}
"""
BUDGETS = (
    Budget(metric="perplexity", max_regression=0.02, relative=True),
    Budget(metric="size_bytes", max=150e6),
)


def around(value: float, width: float) -> Interval:
    return Interval(value=value, low=value * (1 - width), high=value * (1 + width))


def measured(
    stage: str, perplexity: float, change: float, tbt_ms: float, size_bytes: float, notes: tuple[str, ...] = ()
) -> Report:
    values = {
        "top1_agreement": around(1 - abs(change) * 3, 0.003),
        "kl_divergence": around(abs(change), 0.1),
        "exact_match": around(0.875 if change else 1.0, 0.1),
        "ttft_p50_ms": around(tbt_ms * 9, 0.02),
        "ttft_p95_ms": around(tbt_ms * 10, 0.02),
        "tbt_p50_ms": around(tbt_ms, 0.01),
        "tbt_p95_ms": around(tbt_ms * 1.2, 0.03),
        "tbt_p99_ms": around(tbt_ms * 1.5, 0.05),
        "prefill_tokens_per_s": around(128_000 / tbt_ms / 9, 0.02),
        "decode_tokens_per_s": around(1000 / tbt_ms, 0.01),
        "speed_ratio": around(40 / tbt_ms, 0.02),
        "load_s": around(0.4, 0.0),
        "peak_memory_bytes": around(size_bytes * 1.6, 0.0),
        "size_bytes": around(size_bytes, 0.0),
    }
    metrics = {name: metric(name, interval, n=40, how="128-token prompt") for name, interval in values.items()}
    return Report(
        artifact=DIGESTS[stage],
        stage=stage,
        device=DEVICE,
        metrics={"perplexity": _perplexity(perplexity, change), **metrics},
        notes=notes,
    )


def _perplexity(value: float, change: float) -> Metric:
    relative = Interval(value=change, low=change - 0.003, high=change + 0.003) if change else None
    absolute = Interval(value=value * change, low=value * (change - 0.003), high=value * (change + 0.003))
    how = "16 windows of 512 tokens"
    return metric("perplexity", around(value, 0.06), 16, how, absolute if change else None, relative)


def run_record(
    status: Status = "passed", change: float = 0.0139, cached: bool = False, log: Path | None = None
) -> RunRecord:
    passed = status == "passed"
    message = f"perplexity rose 30.45 -> {30.45 * (1 + change):.2f} ({change:+.1%}, allowed 2%) after quantize_gguf"
    verdicts = (
        Verdict(decision="pass" if passed else "fail", passed=passed, metric="perplexity", message=message),
        Verdict(
            decision="inconclusive", passed=True, metric="size_bytes", message="size_bytes is 138 MB", flagged=True
        ),
    )
    rows = (
        StageRecord(index=0, stage="source", role="source", seconds=4.1, kind="gguf_source", size_bytes=91_700_000,
                    fields={"path": "../models/smol", "licence": "Apache-2.0"}),
        StageRecord(index=1, stage="import_gguf", role="reference", seconds=14.2, evaluation_seconds=61.0, kind="hf",
                    size_bytes=538_000_000, env="torch", facts={"precision": "fp32"},
                    tool_versions={"torch": "2.13.0", "transformers": "5.23.0"},
                    report=measured("import_gguf", 30.45, 0.0, 40.0, 538e6)),
        StageRecord(index=2, stage="gguf", role="intermediate", seconds=9.0, evaluation_seconds=70.3, kind="gguf",
                    size_bytes=271_000_000, env="gguf", facts={"precision": "f16"},
                    report=measured("gguf", 30.4527, -0.00004, 20.8, 271e6), verdicts=verdicts[1:]),
        StageRecord(index=3, stage="quantize_gguf", role="candidate", seconds=3.4, evaluation_seconds=145.0,
                    kind="gguf", size_bytes=138_000_000, env="gguf", facts={"precision": "q6_k"},
                    fields={"precision": "q6_k"},
                    tool_versions={"llama-cpp-python": "0.3.36"}, log=log,
                    status="completed" if passed else "halted", verdicts=verdicts,
                    report=measured("quantize_gguf", 30.45 * (1 + change), change, 15.1, 138e6,
                                    ("the machine's own speed drifted by 6%",))),
    )  # fmt: skip
    chain = [row.model_copy(update={"artifact": DIGESTS[row.stage], "cached": cached,
                                    "parents": (DIGESTS[rows[row.index - 1].stage],) if row.index else ()})
             for row in rows]  # fmt: skip
    return RunRecord(
        name="smol-q6k",
        config_path="configs/smol/gguf_q6_k.yaml",
        config_digest="e" * 64,
        config_text=CONFIG,
        git_commit="0123456789abcdef0123456789abcdef01234567",
        started="2026-11-23T17:35:00Z",
        seconds=310.0,
        status=status,
        message="" if passed else message,
        device=DEVICE,
        data=DataRecord(name="python-docs", digest="f" * 64, documents=39, tokens=8192),
        evaluation={"perplexity": {"windows": 16, "window": 512}, "tasks": {}},
        budgets=BUDGETS,
        stages=tuple(chain),
        last_passed=DIGESTS["quantize_gguf" if passed else "gguf"],
    )
