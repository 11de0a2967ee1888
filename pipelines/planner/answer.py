"""The plan: `plan.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from pipelines.planner.binding import Label
from pipelines.planner.choosing import Nearest
from pipelines.planner.left_alone import Left
from pipelines.planner.options import Weighed
from pipelines.planner.pulling import Pulled
from pipelines.planner.workload import Goals, Limits, Workload
from stages.base import Frozen

Verdict = Literal["FEASIBLE", "WARM_ONLY", "INFEASIBLE"]


class Band(Frozen):
    """A predicted figure with the band that 90% of such predictions keep within."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    rating: str = Field("", description="of a time: good, ok, poor or beyond poor")


class Variation(Frozen):
    """The same question with one input halved or doubled."""

    what: str
    verdict: Verdict
    chosen: str


class Challenger(Frozen):
    """What only a prior of quality excludes, and would rank first: measure it before it is believed or dismissed."""

    option: str
    gate: str
    gain: str


class Plan(Frozen):
    """Which levers, in which order, and why to stop."""

    schema_version: Literal[1] = 1
    verdict: Verdict
    model: str
    parameters: int
    hardware: str
    hardware_kind: str = "gpu"
    devices: int
    workload: Workload | None
    goals: Goals
    limits: Limits
    binding: Label | None = Field(None, description="what binds once every lever is pulled")
    chosen: Weighed | None = None
    levers: tuple[Pulled, ...] = ()
    stop: str = Field(description="why no further lever is pulled")
    predictions: tuple[Band, ...] = ()
    rejected: tuple[Left, ...] = ()
    challenger: Challenger | None = None
    nearest: Nearest | None = None
    warm_tokens: int | None = Field(None, description="new tokens after a cached prefix that meet TTFT")
    context_limit: int | None = Field(None, description="tokens whose cache fits beside the weights")
    hours: float | None = Field(None, description="of a batch")
    dollars: float | None = Field(None, description="of a batch")
    variations: tuple[Variation, ...] = ()
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pipeline: dict[str, JsonValue] = Field({}, description="stages and gates")
    serve: dict[str, JsonValue] = Field({}, description="the engine's settings, by vLLM's names where they are shared")
    catalogue: str = Field("", description="the hardware catalogue's version")
