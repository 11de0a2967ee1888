"""What one option would do: memory, times, throughput and cost, by the formulas."""

from __future__ import annotations

from pydantic import Field

from pipelines.planner import formulas
from pipelines.planner.batching import batch_of, concurrency_in
from pipelines.planner.binding import Label, label_of
from pipelines.planner.case import Case, Option, context_length
from pipelines.planner.costs import Costs
from pipelines.planner.efficiency import Efficiency
from stages.base import Frozen


class Prediction(Frozen):
    """A replica's figures, but for what names its devices. Throughput counts output tokens."""

    weight_bytes: float = Field(description="of the whole model")
    weight_bytes_per_device: float
    room_bytes: float = Field(description="R: left for the KV cache, per device; negative when the weights do not fit")
    adapter_bytes: float = 0.0
    concurrency: int = Field(description="N: sequences whose cache fits")
    batch: int = Field(description="B: sequences decoded together, most within the goals")
    crossover: float = Field(description="B*: batch at which decoding becomes bound by arithmetic")
    prefill_s: float
    step_s: float = Field(description="Td of that batch")
    tokens_per_s: float = Field(description="X, one replica at its capacity")
    tbt_ms: float
    ttft_p95_ms: float = Field(description="at the load asked for, or at capacity if that is less")
    cold_ttft_ms: float = Field(description="without the shared prefix and without a queue")
    end_to_end_s: float
    utilisation: float = Field(description="rho: of a replica's time, prefills")
    requests_per_s: float = Field(description="all replicas, at capacity")
    dollars_per_million: float | None = Field(description="at the headroom's load")
    kv_utilisation: float
    device_utilisation: float = Field(description="share of the peak that decoding reaches")
    peak_memory_bytes: float = Field(description="a device's, with the cache that the batch fills")
    label: Label = Field(description="what binds")


def predict(case: Case, option: Option, reached: Efficiency) -> Prediction:
    """The figures of one option. One that does not fit gets them for a single sequence."""
    costs = Costs(case, option, reached)
    weights = option.format.weight_bytes(case.model)
    room = case.usable - weights / option.split - case.reserve - case.adapter_bytes
    concurrency = concurrency_in(room, costs)
    batch = batch_of(costs, concurrency)
    tokens = costs.throughput(batch)
    requests = tokens / case.work.output
    load = min(requests, case.work.requests / option.replicas) if case.by_rate else requests
    ttft, tbt = costs.ttft(batch, load, costs.shared), batch / tokens
    return Prediction(
        weight_bytes=weights,
        weight_bytes_per_device=weights / option.split,
        room_bytes=room,
        adapter_bytes=case.adapter_bytes,
        concurrency=concurrency,
        batch=batch,
        crossover=costs.crossover,
        prefill_s=costs.prefill(costs.shared),
        step_s=costs.decode(batch),
        tokens_per_s=tokens,
        tbt_ms=tbt * 1e3,
        ttft_p95_ms=ttft * 1e3,
        cold_ttft_ms=costs.ttft(batch, 0.0, 0) * 1e3,
        end_to_end_s=formulas.end_to_end_s(ttft, tbt, case.work.output),
        utilisation=formulas.utilisation(load, costs.prefill(costs.shared), reached.kappa),
        requests_per_s=requests * option.replicas,
        dollars_per_million=_dollars(case, option, tokens),
        kv_utilisation=_kv_utilisation(case, option),
        device_utilisation=_device_utilisation(costs, batch),
        peak_memory_bytes=weights / option.split
        + _cached_bytes(costs, room, batch)
        + (reached.working_bytes or case.reserve),
        label=label_of(costs, concurrency, batch),
    )


def _dollars(case: Case, option: Option, tokens_per_s: float) -> float | None:
    price = case.hardware.price_per_hour
    if price is None:
        return None
    return formulas.dollars_per_million(price, option.split, tokens_per_s, case.paid_load)


def _kv_utilisation(case: Case, option: Option) -> float:
    """Of the slots that sequences hold, what they fill: paged all but half a block, contiguous what is not reserved."""
    total = case.work.prompt + case.work.output
    if option.paged and not case.edge:
        return total / (total + formulas.tail_waste(total))
    return (case.work.prompt + case.work.output / 2) / total


def _device_utilisation(costs: Costs, batch: int) -> float:
    flops = 2 * costs.case.model.active * batch
    return min(1.0, flops / costs.decode(batch) / costs.peak(costs.option.format) / costs.option.split)


def _cached_bytes(costs: Costs, room: float, batch: int) -> float:
    """Of a device's cache: as the engine makes it without a GPU, else what the batch fills."""
    work = costs.case.work
    tokens = context_length(costs.case, room) if costs.case.edge else batch * (work.prompt + work.output)
    return max(0, tokens) * costs.kv_bytes()
