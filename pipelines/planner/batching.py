"""How many sequences fit, and how many of them are decoded together."""

from __future__ import annotations

import math

from pipelines.planner import formulas
from pipelines.planner.costs import Costs


def concurrency_in(room: float, costs: Costs) -> int:
    """N: sequences whose cache fits into that many bytes of a device."""
    if room <= 0:
        return 0
    case, work = costs.case, costs.case.work
    if case.edge or not costs.option.paged:
        return formulas.contiguous_concurrency(room, costs.kv_bytes(), work.prompt + work.output)
    return formulas.paged_concurrency(room, costs.kv_bytes(), work.prompt, work.output, costs.shared)


def batch_of(costs: Costs, concurrency: int) -> int:
    """B: what concurrent users come to, else the largest that keeps within the goals; 1 at least."""
    case, most = costs.case, max(1, concurrency)
    if not costs.option.batching:
        return 1
    if case.work.users is not None:
        return max(1, min(most, math.ceil(case.work.users / costs.option.replicas)))
    if case.edge:
        return 1
    return most if case.goals.objective == "batch" else _largest_within(costs, most)


def _largest_within(costs: Costs, most: int) -> int:
    """TBT and TTFT grow with the batch, and so does throughput."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if _within(costs, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _within(costs: Costs, batch: int) -> bool:
    case = costs.case
    tokens = costs.throughput(batch)
    ttft = costs.ttft(batch, tokens / case.work.output, costs.shared)
    return batch / tokens * 1e3 <= case.goals.tbt_ms and ttft * 1e3 <= case.goals.ttft_ms
