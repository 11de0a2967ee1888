"""The predicted figures of an option, each with the band that most such predictions keep within."""

from __future__ import annotations

from pipelines.planner.answer import Band
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.options import Weighed
from pipelines.planner.prediction import Prediction

ERROR_P90 = {"memory": 0.10, "throughput": 0.30, "tbt": 0.30, "ttft": 0.50, "size": 0.02, "cost": 0.30}
"""What 90% of predictions keep within, before calibration (PLANNER.md's goals)."""
RATINGS = {"ttft": (200, 500, 1000), "tbt": (30, 50, 100)}
"""Milliseconds up to which a time is good, ok, poor."""


def bands(chosen: Weighed | None, calibrations: Calibrations) -> tuple[Band, ...]:
    """Of the chosen option; wider where measured runs showed the planner to be off."""
    if chosen is None or chosen.prediction is None:
        return ()
    margins = {**ERROR_P90, **calibrations.margins}
    return tuple(
        Band(
            name=name,
            value=value,
            low=value * (1 - margins[kind]),
            high=value * (1 + margins[kind]),
            unit=unit,
            rating=rating(kind, value),
        )
        for name, kind, value, unit in _figures(chosen.prediction)
    )


def rating(kind: str, milliseconds: float) -> str:
    """good, ok or poor, or beyond that; nothing for what is no time that a user waits."""
    if kind not in RATINGS:
        return ""
    return next((word for word, most in zip(("good", "ok", "poor"), RATINGS[kind], strict=True)
                 if milliseconds <= most), "beyond poor")  # fmt: skip


def _figures(found: Prediction) -> list[tuple[str, str, float, str]]:
    """(name, kind of error, value, unit)."""
    listed = [
        ("size", "size", found.weight_bytes, "bytes"),
        ("memory a device", "memory", found.peak_memory_bytes, "bytes"),
        ("TTFT p95", "ttft", found.ttft_p95_ms, "ms"),
        ("TBT", "tbt", found.tbt_ms, "ms"),
        ("throughput a replica", "throughput", found.tokens_per_s, "tokens/s"),
        ("requests, all replicas", "throughput", found.requests_per_s, "/s"),
    ]
    if found.dollars_per_million is not None:
        listed.append(("10^6 output tokens", "cost", found.dollars_per_million, "$"))
    return listed
