"""Pulls levers from the plainest option to the chosen one, and says of each what it was for."""

from __future__ import annotations

from pydantic import Field

from pipelines.planner.binding import Label
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option, adapter_slots
from pipelines.planner.formats import whole_format
from pipelines.planner.levers import EDGE, SERVER, Lever
from pipelines.planner.options import PREFIX_SHARE
from pipelines.planner.prediction import Prediction, predict
from stages.base import Frozen

SPACE_BATCH = 32  # beyond it fewer bytes alone do not pay: L3a


class Pulled(Frozen):
    """One lever in the plan."""

    id: str
    name: str
    label: Label | None = Field(description="what bound, and was attacked; null where nothing left attacked it")
    reason: str
    before: str
    after: str


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
