"""What binds an option: the label that its levers attack."""

from __future__ import annotations

import math
from typing import Literal

from pipelines.planner.costs import Costs

Label = Literal["capacity", "bandwidth", "compute", "prefill", "link"]


def label_of(costs: Costs, concurrency: int, batch: int) -> Label:
    """Capacity (N<needed), link, prefill (more than half of the time), compute (B>=B*), bandwidth."""
    case, work = costs.case, costs.case.work
    if concurrency < max(1, math.ceil(case.needed / costs.option.replicas)):
        return "capacity"
    decode = costs.decode(batch)
    if costs.link(batch) > decode / 2:
        return "link"
    if batch * costs.prefill(costs.shared, floor=False) > work.output * decode:
        return "prefill"
    if batch >= costs.crossover:
        return "compute"
    batch_bound = batch == concurrency and (case.goals.objective == "batch" or _too_slow(costs, batch))
    return "capacity" if batch_bound else "bandwidth"


def _too_slow(costs: Costs, batch: int) -> bool:
    """Whether fewer requests are served than are asked for, at the headroom's load."""
    case = costs.case
    served = costs.throughput(batch) / case.work.output * costs.option.replicas * case.limits.load
    return case.by_rate and case.goals.objective != "batch" and served < case.work.requests
