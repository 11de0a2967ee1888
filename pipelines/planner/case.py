"""What a prediction is made of: the case that is asked about, and one option of running it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from pipelines.planner.formats import Format
from pipelines.planner.hardware import Hardware
from pipelines.planner.shapes import Decoder
from pipelines.planner.workload import Goals, Limits, Workload
from stages.base import Frozen

EDGE_RESERVE = 1e9
"""Bytes that llama.cpp keeps beside weights and cache, in place of a GPU server's reserve."""
USUAL_CONTEXT = 4096


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

    @property
    def by_rate(self) -> bool:
        """Whether requests a second are asked for, not users or documents."""
        return self.work.users is None and self.work.documents is None

    @property
    def adapter_bytes(self) -> float:
        """Of the adapters that a device holds at once."""
        count = self.work.adapters if self.work.adapters < 2 else adapter_slots(self.work)
        return float(count * self.model.lora_bytes(self.work.rank))


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


def context_length(case: Case, room: float) -> int:
    """Tokens that the cache is made for: prompt and output; without a GPU 4,096 where they fit, since a chat grows."""
    needed = case.work.prompt + case.work.output
    if not case.edge:
        return needed
    fits = int(room / case.model.kv_bytes())
    return min(max(needed, USUAL_CONTEXT), fits, case.model.max_context or fits)


def adapter_slots(work: Workload) -> int:
    """Adapters resident on one device: those in use at once, at most 16."""
    return min(16, work.active_adapters or work.adapters)
