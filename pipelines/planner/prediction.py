"""What one option would do: memory, times, throughput and cost, by the formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from pipelines.planner import formulas
from pipelines.planner.efficiency import MULTI_LORA, Efficiency
from pipelines.planner.formats import Format
from pipelines.planner.hardware import Hardware
from pipelines.planner.shapes import Decoder
from pipelines.planner.values import Frozen
from pipelines.planner.workload import Goals, Limits, Workload

Label = Literal["capacity", "bandwidth", "compute", "prefill", "link"]
DRAFTED, DRAFT_COST = 4, 0.1
"""gamma tokens drafted a verification, each at a tenth of a decode step."""
USUAL_CONTEXT = 4096
EDGE_RESERVE = 1e9
"""Bytes that llama.cpp keeps beside weights and cache, in place of a GPU server's reserve."""


class Option(Frozen):
    """One way to run the model: how it is stored, split, copied and served."""

    format: Format
    split: int = Field(1, description="t, tensor parallelism")
    replicas: int = 1
    engine: str = "vllm"
    kv_bits: int = 16
    paged: bool = True
    batching: bool = Field(True, description="continuous; else one request at a time")
    prefix_cache: bool = True
    speculative: bool = Field(False, description="with a draft model of the limits' acceptance")

    @property
    def devices(self) -> int:
        """How many are used."""
        return self.split * self.replicas

    def __str__(self) -> str:
        shape = f" TP={self.split} DP={self.replicas}" if self.devices > 1 else ""
        extras = f", {self.kv_bits}-bit KV" if self.kv_bits < 16 else ""
        return f"{self.format.name}{shape} on {self.engine}{extras}" + (", speculative" if self.speculative else "")


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


@dataclass(frozen=True)
class Case:
    """Model, machine, workload and goals: what does not change from option to option."""

    model: Decoder
    hardware: Hardware
    count: int
    work: Workload
    goals: Goals
    limits: Limits

    @property
    def edge(self) -> bool:
        """Whether this is no GPU server."""
        return self.hardware.kind != "gpu"

    @property
    def usable(self) -> float:
        """Bytes of a device that may be filled."""
        share = self.hardware.usable if self.edge else self.limits.memory_share * self.hardware.usable
        return share * self.hardware.memory_bytes

    @property
    def reserve(self) -> float:
        """Bytes of a device that neither weights nor cache get."""
        return EDGE_RESERVE if self.edge else self.limits.reserve_bytes

    @property
    def paid_load(self) -> float:
        """Share of the capacity that is used while it is paid for: all of it by a batch, the headroom by a service."""
        return 1.0 if self.goals.objective == "batch" else self.limits.load

    @property
    def needed(self) -> int:
        """Sequences that have to be in flight, of all replicas; 1 where a rate or a deadline decides."""
        return self.work.users or 1


@dataclass(frozen=True)
class Costs:
    """Seconds of an option's phases."""

    case: Case
    option: Option
    reached: Efficiency

    @property
    def lora(self) -> float:
        """What several adapters multiply times by."""
        return MULTI_LORA if self.case.work.adapters > 1 else 1.0

    def peak(self, form: Format) -> float:
        """Q."""
        hardware = self.case.hardware
        return hardware.base_peak if form.maths == "fp16" else hardware.peaks[form.maths]

    def kv_bytes(self) -> float:
        """Per device: k/min(t,Hkv)."""
        model = self.case.model
        return model.kv_bytes(self.option.kv_bits / 8) / min(self.option.split, model.kv_heads)

    def link(self, tokens: float) -> float:
        """C(n)."""
        model, hardware = self.case.model, self.case.hardware
        latency = self.reached.link_latency_s
        return formulas.link_s(model.layers, model.hidden, tokens, self.option.split, latency, hardware.link)

    def prefill(self, shared: int, floor: bool = True) -> float:
        """Tp of one prompt; with the floor, no less than reading the weights once."""
        model, work, t = self.case.model, self.case.work, self.option.split
        matrices, attention = formulas.prefill_flops(
            model.active, model.layers, model.heads * model.head_dim, work.prompt, shared
        )
        seconds = (
            matrices / (self.peak(self.option.format) * self.reached.compute)
            + attention / (self.case.hardware.base_peak * self.reached.attention)
        ) / t
        if floor:
            seconds = max(seconds, self.read(self.option.format.linear_bytes(model)))
        return self.lora * (seconds + self.link(work.prompt - shared))

    def read(self, count: float) -> float:
        """Seconds to read that many bytes, spread over the devices of a replica."""
        return count / (self.option.split * self.case.hardware.bandwidth * self.reached.bandwidth)

    def decode(self, batch: float) -> float:
        """Td of a step over that many sequences."""
        model, form, t = self.case.model, self.option.format, self.option.split
        length = self.case.work.prompt + self.case.work.output / 2
        streamed = form.linear_bytes(model) * model.streamed(batch) / model.linear
        matrices = max(self.read(streamed), 2 * model.active * batch / (t * self.peak(form) * self.reached.compute))
        head = max(
            self.read(form.head_bytes(model)),
            2 * model.head * batch / (t * self.case.hardware.base_peak * self.reached.attention),
        )
        cache = batch * length * self.kv_bytes() / (self.case.hardware.bandwidth * self.reached.bandwidth)
        seconds = self.lora * (matrices + head + cache + self.link(batch) + self.step(batch))
        return seconds / self.speculation if self.option.speculative else seconds

    @property
    def speculation(self) -> float:
        """How many times faster decoding is with the draft model."""
        limits = self.case.limits
        return formulas.speculation_speedup(limits.acceptance or 0.0, DRAFTED, DRAFT_COST, limits.verify_cost)

    def step(self, batch: float) -> float:
        """t0."""
        return formulas.step_s(batch) if self.reached.step_s is None else self.reached.step_s

    def throughput(self, batch: int) -> float:
        """X of one replica."""
        prefill = self.prefill(self.shared, floor=False)
        if self.case.work.alone:
            return 1 / self.decode(1)
        return formulas.throughput(self.reached.kappa, batch, self.case.work.output, prefill, self.decode(batch))

    @property
    def shared(self) -> int:
        """Of the prompt, what is cached."""
        return self.case.work.shared if self.option.prefix_cache else 0

    def ttft(self, batch: int, rate: float, shared: int) -> float:
        """p95 of the time to the first token when a replica gets that many requests a second.

        12 ms+Tp+Td+1.5·ρ·Tp/(1-ρ). A user alone waits for no other's decode step: of Td only t0 is left.
        """
        prefill = self.prefill(shared)
        if self.case.work.alone:
            return self.reached.server_s + prefill + self.step(1)
        rho = formulas.utilisation(rate, prefill, self.reached.kappa)
        return self.reached.server_s + prefill + self.decode(batch) + formulas.queue_p95_s(rho, prefill)


def predict(case: Case, option: Option, reached: Efficiency) -> Prediction:
    """The figures of one option. One that does not fit gets them for a single sequence."""
    costs = Costs(case, option, reached)
    weights = option.format.weight_bytes(case.model)
    room = case.usable - weights / option.split - case.reserve - _adapter_bytes(case)
    concurrency = _concurrency(case, option, costs, room)
    batch = _batch(case, costs, concurrency, option.replicas)
    tokens = costs.throughput(batch)
    requests = tokens / case.work.output
    load = min(requests, case.work.requests / option.replicas) if _by_rate(case) else requests
    ttft = costs.ttft(batch, load, costs.shared)
    tbt = batch / tokens
    price = case.hardware.price_per_hour
    dollars = formulas.dollars_per_million(price, option.split, tokens, case.paid_load) if price is not None else None
    cached = context_length(case, room) if case.edge else batch * (case.work.prompt + case.work.output)
    filled = max(0, cached) * costs.kv_bytes()
    return Prediction(
        weight_bytes=weights,
        weight_bytes_per_device=weights / option.split,
        room_bytes=room,
        adapter_bytes=_adapter_bytes(case),
        concurrency=concurrency,
        batch=batch,
        crossover=formulas.compute_crossover(
            costs.peak(option.format), option.format.bytes_each, case.hardware.bandwidth
        ),
        prefill_s=costs.prefill(costs.shared),
        step_s=costs.decode(batch),
        tokens_per_s=tokens,
        tbt_ms=tbt * 1e3,
        ttft_p95_ms=ttft * 1e3,
        cold_ttft_ms=costs.ttft(batch, 0.0, 0) * 1e3,
        end_to_end_s=formulas.end_to_end_s(ttft, tbt, case.work.output),
        utilisation=formulas.utilisation(load, costs.prefill(costs.shared), reached.kappa),
        requests_per_s=requests * option.replicas,
        dollars_per_million=dollars,
        kv_utilisation=_kv_utilisation(case, option),
        device_utilisation=min(1.0, 2 * case.model.active * batch / costs.decode(batch) / costs.peak(option.format)
                               / option.split),
        peak_memory_bytes=weights / option.split + filled + (reached.working_bytes or case.reserve),
        label=_label(case, costs, concurrency, batch),
    )  # fmt: skip


def context_length(case: Case, room: float) -> int:
    """Tokens that the cache is made for: prompt and output; without a GPU 4,096 where they fit, since a chat grows."""
    needed = case.work.prompt + case.work.output
    if not case.edge:
        return needed
    fits = int(room / case.model.kv_bytes())
    return min(max(needed, USUAL_CONTEXT), fits, case.model.max_context or fits)


def _by_rate(case: Case) -> bool:
    return case.work.users is None and case.work.documents is None


def _adapter_bytes(case: Case) -> float:
    """Of the adapters that a device holds at once."""
    if case.work.adapters < 2:
        return float(case.work.adapters * case.model.lora_bytes(case.work.rank))
    return float(adapter_slots(case.work) * case.model.lora_bytes(case.work.rank))


def adapter_slots(work: Workload) -> int:
    """Adapters resident on one device: those in use at once, at most 16."""
    return min(16, work.active_adapters or work.adapters)


def _concurrency(case: Case, option: Option, costs: Costs, room: float) -> int:
    if room <= 0:
        return 0
    work = case.work
    if case.edge or not option.paged:
        return formulas.contiguous_concurrency(room, costs.kv_bytes(), work.prompt + work.output)
    return formulas.paged_concurrency(room, costs.kv_bytes(), work.prompt, work.output, costs.shared)


def _batch(case: Case, costs: Costs, concurrency: int, replicas: int) -> int:
    """The batch: what concurrent users come to, else the largest that keeps within the goals; 1 at least."""
    if not costs.option.batching:
        return 1
    if case.work.users is not None:
        return max(1, min(max(1, concurrency), math.ceil(case.work.users / replicas)))
    if case.edge:
        return 1
    if case.goals.objective == "batch":
        return max(1, concurrency)
    low, high = 1, max(1, concurrency)
    while low < high:  # TBT and TTFT grow with the batch, and so does throughput
        middle = (low + high + 1) // 2
        if _within(case, costs, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _within(case: Case, costs: Costs, batch: int) -> bool:
    tokens = costs.throughput(batch)
    ttft = costs.ttft(batch, tokens / case.work.output, costs.shared)
    return batch / tokens * 1e3 <= case.goals.tbt_ms and ttft * 1e3 <= case.goals.ttft_ms


def _kv_utilisation(case: Case, option: Option) -> float:
    """Of the slots that sequences hold, what they fill: paged all but half a block, contiguous what is not reserved."""
    total = case.work.prompt + case.work.output
    if option.paged and not case.edge:
        return total / (total + formulas.tail_waste(total))
    return (case.work.prompt + case.work.output / 2) / total


def _label(case: Case, costs: Costs, concurrency: int, batch: int) -> Label:
    """What binds: capacity (N<needed), link, prefill (more than half of the time), compute (B>=B*), bandwidth."""
    if concurrency < max(1, math.ceil(case.needed / costs.option.replicas)):
        return "capacity"
    decode, work = costs.decode(batch), case.work
    if costs.link(batch) > decode / 2:
        return "link"
    if batch * costs.prefill(costs.shared, floor=False) > work.output * decode:
        return "prefill"
    form = costs.option.format
    crossover = formulas.compute_crossover(costs.peak(form), form.bytes_each, case.hardware.bandwidth)
    if batch >= crossover:
        return "compute"
    batch_bound = batch == concurrency and (case.goals.objective == "batch" or _too_slow(case, costs, batch))
    return "capacity" if batch_bound else "bandwidth"


def _too_slow(case: Case, costs: Costs, batch: int) -> bool:
    """Whether fewer requests are served than are asked for, at the headroom's load."""
    served = costs.throughput(batch) / case.work.output * costs.option.replicas * case.limits.load
    return _by_rate(case) and case.goals.objective != "batch" and served < case.work.requests
