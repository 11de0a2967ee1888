"""The levers, in their order: which label each attacks, what it changes, and why one is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from pipelines.planner import formulas
from pipelines.planner.binding import Label
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option, adapter_slots
from pipelines.planner.costs import DRAFT_COST, DRAFTED
from pipelines.planner.formats import whole_format
from pipelines.planner.options import (
    MOST_VERIFY_COST,
    PREFIX_SHARE,
    SGLANG_SHARE,
    SPECULATION_ACCEPTANCE,
    SPECULATION_BATCH,
)
from pipelines.planner.prediction import Prediction, predict
from stages.base import Frozen

SPACE_BATCH = 32  # beyond it fewer bytes alone do not pay: L3a
ALL: frozenset[Label] = frozenset({"capacity", "bandwidth", "compute", "prefill", "link"})


class Pulled(Frozen):
    """One lever in the plan."""

    id: str
    name: str
    label: Label | None = Field(description="what bound, and was attacked; null where nothing left attacked it")
    reason: str
    before: str
    after: str


class Left(Frozen):
    """Something that was rejected, and the inequality that it violates."""

    what: str
    why: str


@dataclass(frozen=True)
class Lever:
    """A change of the option. `toward` gives the current option with the chosen one's setting."""

    id: str
    name: str
    attacks: frozenset[Label]
    reason: str
    toward: Callable[[Option, Option], Option]


def _take(*fields: str) -> Callable[[Option, Option], Option]:
    return lambda now, chosen: now.model_copy(update={field: getattr(chosen, field) for field in fields})


def _format(maths: bool) -> Callable[[Option, Option], Option]:
    """To the chosen format, if it is one of faster arithmetic, or one of fewer bytes alone."""

    def toward(now: Option, chosen: Option) -> Option:
        fits = (chosen.format.maths != "fp16") == maths
        return now.model_copy(update={"format": chosen.format}) if fits and not chosen.format.whole else now

    return toward


EDGE = (
    Lever(
        "L1",
        "GGUF and llama.cpp",
        frozenset({"capacity", "bandwidth", "prefill"}),
        "fewer bytes a token",
        _take("format"),
    ),
    Lever(
        "L1",
        "persistent prompt cache",
        frozenset({"prefill", "bandwidth"}),
        "a cached prefix is not prefilled again",
        _take("prefix_cache"),
    ),
)
_SPACE: frozenset[Label] = frozenset({"capacity", "bandwidth"})
_WORK: frozenset[Label] = frozenset({"compute", "prefill"})
SERVER = (
    Lever("L2", "smallest tensor parallelism that fits", frozenset({"capacity"}), "no link cost", _take("split")),
    Lever("L3a", "INT4 weights, groups of 128", _SPACE, "fewer bytes", _format(maths=False)),
    Lever("L3b", "8-bit weights and activations", _WORK | {"capacity"}, "faster maths", _format(maths=True)),
    Lever("L4", "paged KV, continuous batching, chunked prefill", _SPACE, "free", _take("paged", "batching")),
    Lever("L5", "prefix cache", _WORK, "skips prefill", _take("prefix_cache")),
    Lever("L6", "8-bit KV cache", frozenset({"capacity"}), "twice the sequences", _take("kv_bits")),
    Lever("L7", "speculative decoding", frozenset({"bandwidth"}), "idle compute", _take("speculative")),
    Lever("L8", "replicas", ALL, "replicas beat tensor parallelism", _take("replicas", "split")),
    Lever("L9", "TensorRT-LLM", ALL, "fused engine", _take("engine")),
)


def pull(case: Case, chosen: Option, calibrations: Calibrations) -> tuple[Pulled, ...]:
    """From full precision on one device, one request at a time, to the chosen option: a lever at a time, each at the
    label that binds when it is pulled, ties by order. Where none that is left attacks it, the first of them is pulled
    under its own condition, and says so.
    """
    now, pulled = _start(case, chosen), _adapters(case, chosen)
    pending = list(EDGE if case.edge else SERVER)
    while pending:
        found = predict(case, now, calibrations.efficiency(case.hardware, now.engine, now.format))
        useful = [lever for lever in pending if lever.toward(now, chosen) != now]
        if not useful:
            break
        lever = next((item for item in useful if found.label in item.attacks), useful[0])
        attacked = found.label in lever.attacks
        after = lever.toward(now, chosen)
        then = predict(case, after, calibrations.efficiency(case.hardware, after.engine, after.format))
        pulled.append(
            Pulled(
                id=lever.id,
                name=_named(lever, after),
                label=found.label if attacked else None,
                reason=lever.reason if attacked else f"{lever.reason}; {_unattacked(case, lever, found)}",
                before=_in_short(case, found),
                after=_in_short(case, then),
            )
        )
        pending.remove(lever)
        now = after
    return (*pulled, *_cost(case, chosen, calibrations))


def _adapters(case: Case, chosen: Option) -> list[Pulled]:
    """L10, with L2: what several adapters decide before anything binds."""
    work = case.work
    if work.adapters < 2:
        return []
    each, base = case.model.lora_bytes(work.rank), chosen.format.weight_bytes(case.model)
    slots, name = adapter_slots(work), chosen.format.name.upper()
    return [
        Pulled(
            id="L10",
            name=f"multi-LoRA on one {name} base, {slots} slots of rank {work.rank}, affinity routing",
            label=None,
            reason=f"merging costs {work.adapters} copies; on the host {work.adapters} x {each / 1e6:.0f} MB = "
            f"{work.adapters * each / 1e9:.0f} GB",
            before=f"{work.adapters} merged copies, {work.adapters * base / 1e9:.0f} GB",
            after=f"one base of {base / 1e9:.1f} GB and {slots * each / 1e9:.1f} GB of slots a device",
        )
    ]


def _cost(case: Case, chosen: Option, calibrations: Calibrations) -> list[Pulled]:
    """L11, at last: what is paid for."""
    if case.goals.objective not in {"cost", "batch"} or not case.hardware.price_per_hour:
        return []
    found = predict(case, chosen, calibrations.efficiency(case.hardware, chosen.engine, chosen.format))
    paid = "spot instances: a batch can be interrupted" if case.goals.objective == "batch" else "autoscaling, or spot"
    return [
        Pulled(
            id="L11",
            name=f"cost: {chosen.devices} of {case.count} devices, {paid}",
            label=None,
            reason="the smallest that passes, then bits, batch, fewest devices",
            before=f"{case.count} devices",
            after=f"{chosen.devices} devices, ${found.dollars_per_million or 0:.3g} for 10^6 tokens",
        )
    ]


def _unattacked(case: Case, lever: Lever, found: Prediction) -> str:
    """Why a lever is pulled though it does not attack what binds."""
    if lever.id == "L5":
        return f"free at s/P = {case.work.shared / case.work.prompt:.2f} >= {PREFIX_SHARE}"
    if lever.id == "L3b":
        return f"ranked first, L3a is for B <= {SPACE_BATCH} and B = {found.batch}"
    return "free"


def _start(case: Case, chosen: Option) -> Option:
    plain = {"format": whole_format(case.hardware), "split": 1, "replicas": 1, "prefix_cache": False}
    if not case.work.alone:
        plain |= {"paged": False, "batching": case.edge}
    return chosen.model_copy(update={**plain, "kv_bits": 16, "speculative": False})


def _named(lever: Lever, after: Option) -> str:
    if lever.id in {"L3a", "L3b"} or lever.name.startswith("GGUF"):
        return f"{lever.name}: {after.format.name}"
    if lever.id == "L2":
        return f"{lever.name}: TP={after.split}"
    return f"{lever.name}: DP={after.replicas}" if lever.id == "L8" else lever.name


def _in_short(case: Case, found: Prediction) -> str:
    if found.concurrency < 1:
        return f"does not fit ({found.room_bytes / 1e9:.1f} GB room)"
    if case.edge:
        return f"{found.tokens_per_s:.0f} tok/s, TTFT {found.ttft_p95_ms:.0f} ms"
    return f"{found.requests_per_s:.3g} req/s, TTFT {found.ttft_p95_ms:.0f} ms, TBT {found.tbt_ms:.0f} ms"


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
