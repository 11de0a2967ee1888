"""What is asked of the model: lengths, load, goals, budgets. Milliseconds where a name says so."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stages.base import Frozen

Objective = Literal["slo", "cost", "batch"]
ABSURD_TTFT_MS, ABSURD_TBT_MS = (20.0, 60_000.0), (1.0, 10_000.0)
MOST_RATE, MOST_TOKENS, MOST_HOURS = 1e6, 10_000_000, 8760.0


FINITE = ConfigDict(allow_inf_nan=False)


class Workload(Frozen):
    """The requests. A rate, concurrent streams and a batch of documents are different questions: one is given."""

    model_config = FINITE

    prompt: int = Field(512, ge=1, description="P, tokens")
    output: int = Field(256, ge=1, description="O, tokens")
    shared: int = Field(0, ge=0, description="s, of the prompt, the prefix that requests share")
    rate: float | None = Field(None, gt=0, description="requests a second")
    users: int | None = Field(None, ge=1, description="concurrent streams")
    documents: int | None = Field(None, ge=1, description="requests to be done by the deadline")
    adapters: int = Field(0, ge=0, description="LoRA adapters in all")
    active_adapters: int = Field(0, ge=0, description="adapters in use at once")
    rank: int = Field(16, ge=1, description="of the adapters")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.shared >= self.prompt:
            raise ValueError(f"a shared prefix of {self.shared} tokens leaves nothing of a prompt of {self.prompt}")
        if sum(given is not None for given in (self.rate, self.users, self.documents)) > 1:
            raise ValueError("give a rate or a number of users or of documents: they are different questions")
        if self.active_adapters > self.adapters:
            raise ValueError(f"{self.active_adapters} adapters in use of {self.adapters}")
        return self

    @property
    def streams(self) -> str:
        """The load in words."""
        if self.documents:
            return f"{self.documents:,} documents"
        return f"{self.users} concurrent streams" if self.users else f"{self.requests:g} req/s"

    @property
    def requests(self) -> float:
        """λ: requests a second; 1 unless given."""
        return self.rate if self.rate is not None else 1.0

    @property
    def alone(self) -> bool:
        """Whether one user is served at a time."""
        return self.users == 1

    def scaled(self, prompt: float = 1, output: float = 1, load: float = 1) -> Workload:
        """The same with other lengths and load."""
        longer = max(1, round(self.prompt * prompt))
        changes: dict[str, object] = {
            "prompt": longer,
            "output": max(1, round(self.output * output)),
            "shared": min(self.shared, longer - 1),
        }
        if self.users is not None:
            changes["users"] = max(1, round(self.users * load))
        elif self.documents is not None:
            changes["documents"] = max(1, round(self.documents * load))
        else:
            changes["rate"] = self.requests * load
        return self.model_copy(update=changes)


class Goals(Frozen):
    """What must hold."""

    model_config = FINITE

    ttft_ms: float = Field(500.0, gt=0, description="p95 of the time to the first token")
    tbt_ms: float = Field(50.0, gt=0, description="p95 of the time between tokens")
    objective: Objective = "slo"
    hours: float = Field(24.0, gt=0, description="deadline of a batch")
    perplexity: float = Field(0.05, ge=0, description="relative rise allowed")
    task: float = Field(1.0, ge=0, description="points of task accuracy allowed to be lost")
    dollars_per_million: float | None = Field(None, gt=0, description="ceiling for 10^6 output tokens")


class Limits(Frozen):
    """How full a machine may be."""

    model_config = FINITE

    memory_share: float = Field(0.90, gt=0, le=1, description="u, of the memory")
    reserve_bytes: float = Field(2e9, ge=0, description="a GPU, for activations and the runtime")
    load: float = Field(0.80, gt=0, le=1, description="of the capacity")
    acceptance: float | None = Field(None, ge=0, le=1, description="alpha of a draft model, measured")
    verify_cost: float = Field(1.0, gt=0, description="v: of a verification, in decode steps")
    frozen: bool = Field(False, description="the model does not change any more: a compiled engine is worth its time")


def warnings(work: Workload, goals: Goals) -> list[str]:
    """What looks like a mistaken unit."""
    found = []
    for name, value, (low, high) in (
        ("ttft", goals.ttft_ms, ABSURD_TTFT_MS),
        ("tbt", goals.tbt_ms, ABSURD_TBT_MS),
    ):
        if value < low:
            found.append(f"{name} {value:g} ms is absurdly short: seconds given for milliseconds?")
        if value > high:
            found.append(f"{name} {value:g} ms is absurdly long: microseconds given for milliseconds?")
    if goals.perplexity > 1:
        found.append(f"perplexity may rise by {goals.perplexity:.0%}: percent given for a share? write 5% or 0.05")
    if goals.hours > MOST_HOURS:
        found.append(f"a deadline of {goals.hours:g} hours is absurdly long: seconds given for hours?")
    if work.rate is not None and work.rate > MOST_RATE:
        found.append(f"{work.rate:g} requests a second is absurdly many: a rate by the day?")
    if work.prompt > MOST_TOKENS:
        found.append(f"a prompt of {work.prompt:,} tokens is absurdly long: characters or bytes?")
    return found
