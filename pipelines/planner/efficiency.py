"""Which shares of a peak are reached: defaults by machine, engine and format, and what calibration says instead."""

from __future__ import annotations

from pydantic import Field

from pipelines.planner.formats import Format
from pipelines.planner.hardware import Hardware
from stages.base import Frozen

ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp")
INT4_PENALTY = 0.8
MULTI_LORA = 1.2


class Efficiency(Frozen):
    """One machine, engine and format. Times in seconds."""

    compute: float = Field(gt=0, description="eta_c, of the format's peak")
    attention: float = Field(gt=0, description="eta_c of attention and the head, in 16 bits")
    bandwidth: float = Field(gt=0, description="eta_b")
    kappa: float = Field(1.0, gt=0, description="share of the time that the scheduler uses")
    server_s: float = Field(0.0, ge=0, description="before a prefill begins")
    step_s: float | None = Field(None, description="t0 where it does not grow with the batch; else the formula's")
    link_latency_s: float = 40e-6
    working_bytes: float = Field(0.0, description="memory beyond weights and cache, where it was measured")
    calibrated: int = Field(0, description="runs that it was fitted to; 0 for defaults")
    sourced: bool = Field(True, description="whether the defaults were ever compared with measurements elsewhere")


def default(hardware: Hardware, engine: str, form: Format) -> Efficiency:
    """PLANNER.md's defaults; those of processors are guesses until they are calibrated."""
    if hardware.kind == "gpu":
        reached = {"fp16": 0.65}.get(form.maths, 0.55) * (INT4_PENALTY if form.weight_only else 1)
        return Efficiency(
            compute=reached,
            attention=0.65,
            bandwidth=0.85,
            kappa=1.0 if engine == "tensorrt-llm" else 0.85,
            server_s=0.012,
            link_latency_s=20e-6 if hardware.nvlink else 40e-6,
        )
    if hardware.kind == "apple":
        return Efficiency(compute=0.6, attention=0.6, bandwidth=0.9, step_s=8e-3)
    return Efficiency(compute=0.5, attention=0.5, bandwidth=0.7, step_s=2e-3, sourced=False)
