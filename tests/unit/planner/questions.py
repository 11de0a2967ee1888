"""The four worked scenarios as questions."""

from __future__ import annotations

from pipelines.planner import hardware, reading
from pipelines.planner.case import Case
from pipelines.planner.planning import Question
from pipelines.planner.shapes import Decoder
from pipelines.planner.workload import Goals, Limits, Workload

GOALS, LIMITS = Goals(), Limits()
TTFT_200 = Goals(ttft_ms=200)
CHAT = Workload(prompt=500, output=150, shared=300, rate=500)


def decoder(name: str) -> Decoder:
    model = reading.read(name)
    assert isinstance(model, Decoder)
    return model


def question(
    model: str, machine: str, count: int, work: Workload, goals: Goals = GOALS, limits: Limits = LIMITS
) -> Question:
    return Question(
        model=decoder(model), hardware=hardware.find(machine), count=count, work=work, goals=goals, limits=limits
    )


def case(model: str, machine: str, count: int, work: Workload, goals: Goals = GOALS, limits: Limits = LIMITS) -> Case:
    return Case(decoder(model), hardware.find(machine), count, work, goals, limits)


def chat_8b(**load: int) -> Question:
    work = CHAT.model_copy(update={"rate": None, **load}) if load else CHAT
    return question("llama-3-8b", "a100-80", 4, work, TTFT_200)


def batch_70b(machine: str = "a100-80") -> Question:
    work = Workload(prompt=4000, output=300, documents=10_000)
    return question("llama-3-70b", machine, 2, work, Goals(objective="batch", hours=24))


def laptop_7b() -> Question:
    work = Workload(prompt=1000, output=256, users=1)
    return question("codellama-7b", "m2-pro-16", 1, work, Goals(ttft_ms=100, tbt_ms=55))


def adapters_8b() -> Question:
    work = Workload(prompt=500, output=200, rate=50, adapters=1000, active_adapters=16, rank=16)
    return question("llama-3-8b", "a100-80", 8, work)
