"""How long the phases of an option take, by the formulas."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.planner import formulas
from pipelines.planner.case import Case, Option
from pipelines.planner.efficiency import MULTI_LORA, Efficiency
from pipelines.planner.formats import Format

DRAFTED, DRAFT_COST = 4, 0.1
"""gamma tokens drafted a verification, each at a tenth of a decode step."""


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
    def crossover(self) -> float:
        """B*, the batch at which decoding becomes bound by arithmetic."""
        form = self.option.format
        return formulas.compute_crossover(self.peak(form), form.bytes_each, self.case.hardware.bandwidth)

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
