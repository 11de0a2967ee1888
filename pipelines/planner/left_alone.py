"""Levers that were not pulled, and why."""

from __future__ import annotations

import math

from pipelines.planner import formulas
from pipelines.planner.case import Case, Option
from pipelines.planner.costs import DRAFT_COST, DRAFTED
from pipelines.planner.options import (
    MOST_VERIFY_COST,
    PREFIX_SHARE,
    SGLANG_SHARE,
    SPECULATION_ACCEPTANCE,
    SPECULATION_BATCH,
)
from pipelines.planner.prediction import Prediction
from stages.base import Frozen


class Left(Frozen):
    """Something that was rejected, and the inequality that it violates."""

    what: str
    why: str


def left_alone(case: Case, option: Option, found: Prediction) -> tuple[Left, ...]:
    """Levers that were not pulled, each with the condition that does not hold."""
    work, goals = case.work, case.goals
    said = []
    if work.shared / work.prompt < PREFIX_SHARE:
        said.append(("L5 prefix cache", f"s/P = {work.shared / work.prompt:.2f} < {PREFIX_SHARE}"))
    if not case.edge:
        if work.alone:
            said.append(("L4 batching", "1 user: nothing to batch, no other to share the cache with"))
        if found.concurrency * option.replicas >= case.needed:
            cache = found.batch * (work.prompt + work.output) * case.model.kv_bytes() / option.split
            filled = f"KV {cache / max(found.room_bytes, 1):.0%} of room"
            wanted = max(found.batch, math.ceil(case.needed / option.replicas))
            said.append(("L6 8-bit KV", f"N = {found.concurrency} >= {wanted} needed, {filled}"))
        said.append(("L9 TensorRT-LLM", _tensorrt(case, found)))
        if option.split == 1 and case.count > 1:
            said.append(("more TP", "t > 1 costs 2L all-reduces a step; replicas carry more requests"))
    if not option.speculative:
        said.append(("L7 speculation", _speculation(case, found)))
    if work.adapters > 1:
        merged = work.adapters * found.weight_bytes
        said.append(("merging adapters", f"{work.adapters} x {found.weight_bytes / 1e9:.2f} = {merged / 1e9:.0f} GB"
                     f" > {case.usable * case.count / 1e9:.0f} GB"))  # fmt: skip
    elif not case.edge:
        said.append(("L10 multi-LoRA", f"{work.adapters} adapters < 2"))
    if goals.objective == "slo" and found.dollars_per_million is None:
        said.append(("L11 cost", "no price is known: --price"))
    return tuple(Left(what=what, why=why) for what, why in said)


def _tensorrt(case: Case, found: Prediction) -> str:
    if not case.limits.frozen:
        return "the model is not declared frozen (--frozen)"
    gap = case.work.requests / max(found.requests_per_s * case.limits.load, 1e-9) - 1
    return f"gap {gap:.0%} > 25%" if gap > 0.25 else f"goal met: gap {gap:.0%}"


def _speculation(case: Case, found: Prediction) -> str:
    limits = case.limits
    if found.tbt_ms <= case.goals.tbt_ms:
        return f"TBT {found.tbt_ms:.0f} <= {case.goals.tbt_ms:g} ms: met without"
    if found.batch > SPECULATION_BATCH:
        return f"B = {found.batch} > {SPECULATION_BATCH}: no idle compute"
    if limits.acceptance is None:
        return "no acceptance rate was measured (--acceptance)"
    if limits.acceptance < SPECULATION_ACCEPTANCE:
        return f"acceptance {limits.acceptance:g} < {SPECULATION_ACCEPTANCE}"
    if limits.verify_cost > MOST_VERIFY_COST:
        return f"verification costs v = {limits.verify_cost:g} > {MOST_VERIFY_COST}"
    gain = formulas.speculation_speedup(limits.acceptance, DRAFTED, DRAFT_COST, limits.verify_cost)
    return f"another option meets TBT; it would give {gain:.2f}x"


def engine_reason(case: Case) -> str:
    """Why that engine."""
    share = case.work.shared / case.work.prompt
    if case.edge:
        return "no GPU: llama.cpp"
    if share >= SGLANG_SHARE:
        return f"s/P = {share:.2f} >= {SGLANG_SHARE}: SGLang's radix cache (runner-up: vLLM's prefix cache)"
    return f"s/P = {share:.2f} < {SGLANG_SHARE}: vLLM"
