"""What a measurement says: metrics with intervals, and the device they were taken on."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from stages.base import Frozen


class Kind(NamedTuple):
    """What is true of a metric wherever it is measured. `part` names the sections of `evaluation:` that yield it."""

    unit: str
    higher_is_better: bool
    compared: bool
    part: str


KINDS = {
    "perplexity": Kind("", False, True, "perplexity"),
    "top1_agreement": Kind("share", True, False, "perplexity or classification"),
    "kl_divergence": Kind("nats", False, False, "perplexity"),
    "exact_match": Kind("share", True, False, "generation"),
    "cosine_agreement": Kind("", True, False, "embeddings"),
    "rank_agreement": Kind("share", True, False, "embeddings"),
    "recall": Kind("share", True, True, "embeddings"),
    "accuracy": Kind("share", True, True, "tasks or classification"),
    "ttft_p50_ms": Kind("ms", False, True, "speed"),
    "ttft_p95_ms": Kind("ms", False, True, "speed"),
    "tbt_p50_ms": Kind("ms", False, True, "speed"),
    "tbt_p95_ms": Kind("ms", False, True, "speed"),
    "tbt_p99_ms": Kind("ms", False, True, "speed"),
    "prefill_tokens_per_s": Kind("tokens/s", True, True, "speed"),
    "decode_tokens_per_s": Kind("tokens/s", True, True, "speed"),
    "speed_ratio": Kind("x", True, False, "speed or latency"),
    "latency_p50_ms": Kind("ms", False, True, "latency"),
    "latency_p95_ms": Kind("ms", False, True, "latency"),
    "latency_p99_ms": Kind("ms", False, True, "latency"),
    "throughput_per_s": Kind("/s", True, True, "latency"),
    "draft_acceptance": Kind("share", True, False, "speed"),
    "draft_tokens_per_step": Kind("tokens", True, False, "speed"),
    "draft_exact_match": Kind("share", True, False, "speed"),
    "undrafted_tokens_per_s": Kind("tokens/s", True, False, "speed"),
    "draft_tokens_per_s": Kind("tokens/s", True, False, "speed"),
    "draft_speedup": Kind("x", True, False, "speed"),
    "draft_memory_bytes": Kind("bytes", False, False, "speed"),
    "draft_size_bytes": Kind("bytes", False, False, "speed"),
    "load_s": Kind("s", False, True, "speed or latency"),
    "peak_memory_bytes": Kind("bytes", False, True, "speed or latency"),
    "size_bytes": Kind("bytes", False, True, ""),
}
"""`accuracy` stands for `accuracy_<task>`; a TTFT at a further prompt length has the length as its last part."""

DRAFTING = frozenset(name for name in KINDS if "draft" in name)
"""Measured where the config names a draft model."""

QUALITY_PARTS = frozenset({"perplexity", "generation", "tasks", "classification", "embeddings"})


def kind_of(metric: str) -> Kind | None:
    """What is known of a metric by its name, or None for a name that nothing measures."""
    if metric.startswith("accuracy_"):
        return KINDS["accuracy"]
    stem, _, last = metric.rpartition("_")
    return KINDS.get(metric) or (KINDS.get(stem) if last.isdigit() else None)


def parts_of(kind: Kind) -> list[str]:
    """The sections of `evaluation:` that yield the metric."""
    return kind.part.split(" or ") if kind.part else []


def of_quality(kind: Kind) -> bool:
    """Whether the metric says how good the model is: that is judged after every stage, speed and size at the end."""
    return any(part in QUALITY_PARTS for part in parts_of(kind))


class Interval(Frozen):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Every bound times the factor; a negative factor swaps the bounds."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Interval(value=self.value * factor, low=low, high=high)


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

    @property
    def interval(self) -> Interval:
        """The value with its bounds."""
        return Interval(value=self.value, low=self.low, high=self.high)


def metric(
    name: str,
    measured: Interval,
    n: int,
    how: str,
    change: Interval | None = None,
    relative: Interval | None = None,
) -> Metric:
    """A Metric with the unit and the direction that its name implies."""
    kind = kind_of(name)
    if kind is None:
        raise KeyError(name)
    return Metric(
        name=name,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        n=n,
        unit=kind.unit,
        higher_is_better=kind.higher_is_better,
        how=how,
        change=change,
        relative=relative,
    )


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
