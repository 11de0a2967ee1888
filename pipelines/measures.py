"""What a measurement says: metrics with intervals, and the device they were taken on."""

from __future__ import annotations

from pydantic import Field

from stages.base import Frozen


class Interval(Frozen):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float


class Metric(Frozen):
    """One measured number. `low` and `high` bound its 95% interval, `n` counts its samples.

    `change` is candidate - reference and `relative` is candidate / reference - 1, both from paired samples.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    higher_is_better: bool
    how: str = Field("", description="how it was taken")
    change: Interval | None = None
    relative: Interval | None = None


class DeviceFacts(Frozen):
    """The machine that a number was taken on; `identity` names it in cache keys."""

    identity: str
    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_gb: float
    gpus: tuple[str, ...] = ()
    system: str = ""


class Report(Frozen):
    """Everything measured of one artifact."""

    artifact: str
    stage: str
    device: DeviceFacts
    metrics: dict[str, Metric]
    notes: tuple[str, ...] = Field((), description="warnings: drift, suspicious gains, limits reached")
