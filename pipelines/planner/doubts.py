"""What of a question looks mistaken: units mixed up, a goal that nothing can judge, more tokens than positions."""

from __future__ import annotations

from pipelines.planner.case import Case
from pipelines.planner.hardware import absurd
from pipelines.planner.workload import warnings


def doubts(case: Case) -> list[str]:
    """One sentence each; the plan is made all the same."""
    work, goals, machine = case.work, case.goals, case.hardware
    said = [*warnings(work, goals), *absurd(machine)]
    if goals.dollars_per_million is not None and machine.price_per_hour is None:
        said.append(f"the ceiling of ${goals.dollars_per_million:g} was not judged: no price is known (--price)")
    if goals.objective == "cost" and machine.price_per_hour is None:
        said.append("cost was not ranked: no price is known (--price)")
    tokens, positions = work.prompt + work.output, case.model.max_context
    if positions and tokens > positions:
        said.append(f"{tokens:,} tokens of prompt and output > {positions:,} positions that the model was trained for")
    if not case.edge and case.reserve > machine.memory_bytes:
        said.append(f"a reserve of {case.reserve / 1e9:g} GB is more than the device has: MB given for GB?")
    return said
