"""Plans for CNNs and encoders: one pass, no cache (levers V1 to V5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.planner import formulas
from pipelines.planner.hardware import Hardware, absurd, catalogue_version
from pipelines.planner.levers import Left, Pulled
from pipelines.planner.shapes import Encoder
from pipelines.planner.workload import Goals, Limits

if TYPE_CHECKING:
    from pipelines.planner.answer import Plan

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


def answer(model: Encoder, hardware: Hardware, count: int, goals: Goals, limits: Limits) -> Plan:
    """V1 to V5 in order, until the latency goal (`ttft_ms`) is met with 20% to spare."""
    from pipelines.planner.answer import Band, Plan

    target, goal = target_of(hardware), goals.ttft_ms
    width = "fp32" if hardware.kind == "cpu" else "fp16"
    now = latency_s(model, hardware, "fp32" if "fp32" in hardware.peaks else width) * 1e3
    pulled = [_pulled("V1", f"native runtime: {target}", "native kernels", now, now)]
    after = now / FUSION
    pulled.append(_pulled("V2", "fusion, folding", "lossless", now, after))
    now, left, size = after, [], model.weights * 4.0
    faster = "fp16" if "fp16" in hardware.peaks and hardware.kind in {"gpu", "apple"} else "int8"
    steps = {faster, "int8"} if "int8" in hardware.peaks else {faster}
    if "int8" in steps and not _fast_int8(hardware):
        steps.discard("int8")
        left.append(Left(what="V3 int8", why="no VNNI, AMX or NPU: INT8 is hardly faster than float32 here"))
    for maths in sorted(steps):  # fp16 before int8: the cheaper loss first
        if now <= goal * limits.load:
            left.append(Left(what=f"V3 {maths}", why=f"{now:.3g} ms <= {goal:g} ms x {limits.load:.0%}: goal met"))
            continue
        after = min(now, latency_s(model, hardware, maths) * 1e3 / FUSION)
        pulled.append(
            _pulled(
                "V3",
                maths.upper() + (" by calibration, QAT where its gate fails" if maths == "int8" else ""),
                "cheap",
                now,
                after,
            )
        )
        now, size = after, model.weights * (2.0 if maths == "fp16" else 1.0)
    gap = now / goal
    verdict = "FEASIBLE" if gap <= 1 else "INFEASIBLE"
    for lever, name, most in (("V4", "structured pruning", PRUNING), ("V5", "distillation", DISTILLATION)):
        wanted = 1 < gap <= most and not (lever == "V5" and gap <= PRUNING)
        if wanted:
            pulled.append(_pulled(lever, name, "stays dense" if lever == "V4" else "costliest", now, goal))
            verdict = "FEASIBLE"
        else:
            left.append(
                Left(
                    what=f"{lever} {name}", why=f"gap {gap:.2f}x, attacks {'1 to 2x' if lever == 'V4' else '2 to 10x'}"
                )
            )
    stop = f"S1: {now:.3g} ms <= {goal:g} ms" if gap <= 1 else f"S4: {now:.3g} ms > {goal:g} ms after V3"
    return Plan(
        verdict="FEASIBLE" if verdict == "FEASIBLE" else "INFEASIBLE",
        model=model.name,
        parameters=model.parameters,
        hardware=hardware.name,
        hardware_kind=hardware.kind,
        devices=count,
        workload=None,
        goals=goals,
        limits=limits,
        levers=tuple(pulled),
        stop=stop,
        predictions=(
            Band(name="size", value=size, low=size * 0.98, high=size * 1.02, unit="bytes"),
            Band(name="latency, batch 1", value=now, low=now * 0.7, high=now * 1.3, unit="ms"),
        ),
        rejected=tuple(left),
        assumptions=(f"{REACHED:.0%} of the peak and {BANDWIDTH:.0%} of the bandwidth are reached (recalled)",),
        pipeline={"stages": [*([] if len(pulled) < 3 else ["quantize", "evaluate"]), "benchmark"], "target": target},
        warnings=tuple(_doubts(hardware, goals)),
        catalogue=catalogue_version(),
    )


def _doubts(hardware: Hardware, goals: Goals) -> list[str]:
    said = absurd(hardware)
    if goals.ttft_ms < ABSURD_MS:
        said.append(f"a latency of {goals.ttft_ms:g} ms is absurdly short: seconds given for milliseconds?")
    return said


def _pulled(lever: str, name: str, reason: str, before: float, after: float) -> Pulled:
    return Pulled(
        id=lever, name=name, label="compute", reason=reason, before=f"{before:.3g} ms", after=f"{after:.3g} ms"
    )
