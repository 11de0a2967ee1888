"""Plans for CNNs and encoders: one pass, no cache (levers V1 to V5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.planner import formulas
from pipelines.planner.hardware import Hardware, absurd, catalogue_version
from pipelines.planner.left_alone import Left
from pipelines.planner.pulling import Pulled
from pipelines.planner.shapes import Encoder
from pipelines.planner.workload import Goals, Limits

if TYPE_CHECKING:
    from pipelines.planner.answer import Band, Plan

REACHED, BANDWIDTH = 0.35, 0.85
ABSURD_MS = 0.1
FUSION = 1.3
"""V2 usually brings 1.2-1.5x; it is lossless."""
PRUNING, DISTILLATION = 2.0, 10.0


def target_of(hardware: Hardware) -> str:
    """V1: the runtime with native kernels: five mappings."""
    if hardware.kind == "gpu":
        return "tensorrt"
    if hardware.kind == "apple":
        return "coreml"
    if hardware.kind == "npu":
        return "litert"
    intel = any(word in hardware.name.lower() for word in ("intel", "xeon", "avx512", "amx"))
    return "openvino" if intel else "onnxruntime"


def _fast_int8(hardware: Hardware) -> bool:
    """Whether integers have units of their own: a processor without VNNI or AMX only packs twice as many."""
    if hardware.kind != "cpu" or "fp16" in hardware.peaks:
        return True
    return hardware.peaks.get("int8", 0.0) > 2 * hardware.base_peak


def latency_s(model: Encoder, hardware: Hardware, maths: str, batch: int = 1) -> float:
    """max(FLOP/(Q·ηc), bytes/(BW·ηb)) + kernels·5 µs, for a batch."""
    peak = hardware.peaks.get(maths) or hardware.base_peak
    width = {"int8": 1, "fp16": 2}.get(maths, 4)
    moved = (model.weights + model.activations * batch) * width
    return formulas.encoder_s(model.flops * batch, moved, peak * REACHED, hardware.bandwidth * BANDWIDTH, model.kernels)


@dataclass
class _Ladder:
    """What was pulled and what was left, and how fast and how large the model is after it."""

    milliseconds: float
    size: float
    pulled: list[Pulled] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def pull(self, lever: str, name: str, reason: str, after: float) -> None:
        """Go on from `after` milliseconds."""
        before, self.milliseconds = f"{self.milliseconds:.3g} ms", after
        told = {"id": lever, "name": name, "label": "compute", "reason": reason}
        self.pulled.append(Pulled(**told, before=before, after=f"{after:.3g} ms"))


def answer(model: Encoder, hardware: Hardware, count: int, goals: Goals, limits: Limits) -> Plan:
    """V1 to V5 in order, until the latency goal (`ttft_ms`) is met with 20% to spare."""
    from pipelines.planner.answer import Plan

    ladder, target, goal = _lossless(model, hardware), target_of(hardware), goals.ttft_ms
    _fewer_bits(ladder, model, hardware, goal, limits)
    reached = ladder.milliseconds
    feasible = _smaller(ladder, goal) or reached <= goal
    stop = f"S1: {reached:.3g} ms <= {goal:g} ms" if reached <= goal else f"S4: {reached:.3g} ms > {goal:g} ms after V3"
    quantized = [] if len(ladder.pulled) < 3 else ["quantize", "evaluate"]
    return Plan(
        verdict="FEASIBLE" if feasible else "INFEASIBLE",
        model=model.name,
        parameters=model.parameters,
        hardware=hardware.name,
        hardware_kind=hardware.kind,
        devices=count,
        workload=None,
        goals=goals,
        limits=limits,
        levers=tuple(ladder.pulled),
        stop=stop,
        predictions=_predicted(ladder.size, reached),
        rejected=tuple(ladder.left),
        assumptions=(f"{REACHED:.0%} of the peak and {BANDWIDTH:.0%} of the bandwidth are reached (recalled)",),
        pipeline={"stages": [*quantized, "benchmark"], "target": target},
        warnings=tuple(_doubts(hardware, goals)),
        catalogue=catalogue_version(),
    )


def _lossless(model: Encoder, hardware: Hardware) -> _Ladder:
    """V1 and V2: native kernels, fused."""
    width = "fp32" if hardware.kind == "cpu" or "fp32" in hardware.peaks else "fp16"
    now = latency_s(model, hardware, width) * 1e3
    ladder = _Ladder(now, model.weights * 4.0)
    ladder.pull("V1", f"native runtime: {target_of(hardware)}", "native kernels", now)
    ladder.pull("V2", "fusion, folding", "lossless", now / FUSION)
    return ladder


def _fewer_bits(ladder: _Ladder, model: Encoder, hardware: Hardware, goal: float, limits: Limits) -> None:
    """V3: FP16 before INT8, the cheaper loss first, as far as the goal needs it."""
    faster = "fp16" if "fp16" in hardware.peaks and hardware.kind in {"gpu", "apple"} else "int8"
    steps = {faster, "int8"} if "int8" in hardware.peaks else {faster}
    if "int8" in steps and not _fast_int8(hardware):
        steps.discard("int8")
        ladder.left.append(Left(what="V3 int8", why="no VNNI, AMX or NPU: INT8 is hardly faster than float32 here"))
    for maths in sorted(steps):
        now = ladder.milliseconds
        if now <= goal * limits.load:
            met = f"{now:.3g} ms <= {goal:g} ms x {limits.load:.0%}: goal met"
            ladder.left.append(Left(what=f"V3 {maths}", why=met))
            continue
        how = " by calibration, QAT where its gate fails" if maths == "int8" else ""
        ladder.pull("V3", f"{maths.upper()}{how}", "cheap", min(now, latency_s(model, hardware, maths) * 1e3 / FUSION))
        ladder.size = model.weights * (2.0 if maths == "fp16" else 1.0)


def _smaller(ladder: _Ladder, goal: float) -> bool:
    """V4 and V5: whether a smaller network closes the gap that is left. Neither changes what V3 has reached."""
    reached, wanted = ladder.milliseconds / goal, False
    for lever, name, reason, least, most in (
        ("V4", "structured pruning", "stays dense", 1.0, PRUNING),
        ("V5", "distillation", "costliest", PRUNING, DISTILLATION),
    ):
        if least < reached <= most:
            ladder.pull(lever, name, reason, goal)
            wanted = True
        else:
            attacks = f"gap {reached:.2f}x, attacks {least:g} to {most:g}x"
            ladder.left.append(Left(what=f"{lever} {name}", why=attacks))
    return wanted


def _predicted(size: float, milliseconds: float) -> tuple[Band, ...]:
    from pipelines.planner.answer import Band

    return (
        Band(name="size", value=size, low=size * 0.98, high=size * 1.02, unit="bytes"),
        Band(name="latency, batch 1", value=milliseconds, low=milliseconds * 0.7, high=milliseconds * 1.3, unit="ms"),
    )


def _doubts(hardware: Hardware, goals: Goals) -> list[str]:
    said = absurd(hardware)
    if goals.ttft_ms < ABSURD_MS:
        said.append(f"a latency of {goals.ttft_ms:g} ms is absurdly short: seconds given for milliseconds?")
    return said
