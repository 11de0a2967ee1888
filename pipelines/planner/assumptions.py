"""What a plan takes for granted, in sentences."""

from __future__ import annotations

from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case
from pipelines.planner.left_alone import engine_reason
from pipelines.planner.options import Weighed


def assumptions(case: Case, chosen: Weighed | None, calibrations: Calibrations) -> tuple[str, ...]:
    """The question as it was understood, the price, the priors, and what measured runs say of the planner."""
    return (*_question(case), _price(case), *_quality(chosen), *_untrusted(calibrations))


def _question(case: Case) -> list[str]:
    work = case.work
    return [
        f"prompt {work.prompt}, output {work.output}, shared prefix {work.shared} tokens; {work.streams}",
        f"goals: TTFT p95 {case.goals.ttft_ms:g} ms, TBT {case.goals.tbt_ms:g} ms; objective {case.goals.objective}; "
        f"perplexity +{case.goals.perplexity:.0%}, task -{case.goals.task:g} points",
        f"memory {case.usable / 1e9:.1f} GB usable a device, {case.reserve / 1e9:.1f} GB reserved; load <= "
        f"{case.limits.load:.0%}",
        engine_reason(case),
    ]


def _price(case: Case) -> str:
    hardware = case.hardware
    if hardware.price_per_hour is None:
        return "no price is known, so nothing is ranked by cost: --price"
    source = hardware.sources.get("price_per_hour", "given by hand")
    return f"${hardware.price_per_hour:g} an hour and device ({source})"


def _quality(chosen: Weighed | None) -> list[str]:
    said = []
    if chosen and chosen.option.kv_bits < 16:
        said.append("an 8-bit KV cache costs quality that no prior tells: the gate decides")
    if chosen and chosen.prior and not chosen.option.format.whole:
        said.append(f"quality by prior, {chosen.prior.source}: the gate decides")
    return said


def _untrusted(calibrations: Calibrations) -> list[str]:
    said = ", ".join(f"{kind} off by {share:.0%} (p90)" for kind, share in calibrations.margins.items())
    return [f"UNTRUSTED by measured runs, bands widened: {said}"] if said else []
