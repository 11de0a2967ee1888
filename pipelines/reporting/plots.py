"""What quality costs in size and speed, drawn: a point a stage, its error bars, and the budget's limit."""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.measures import Interval, Metric
from pipelines.records import RunRecord, StageRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Axis = Literal["size", "speed"]
STYLE_VERSION = 1  # raised when the drawing changes, so that kept pictures are drawn anew
COLOURS = {"reference": "#57606a", "within budget": "#1f6feb", "over budget": "#b42318"}
MARKERS = {"reference": "D", "within budget": "o", "over budget": "X"}
X_METRICS = {"size": "size_bytes", "speed": "decode_tokens_per_s"}
X_LABELS = {"size": "size on disk, MB", "speed": "decode, tokens/s (one sequence)"}


@dataclass(frozen=True)
class Point:
    """One stage: x and y with their 95% intervals as (value, low, high)."""

    label: str
    group: Literal["reference", "within budget", "over budget"]
    x: tuple[float, float, float]
    y: tuple[float, float, float]


def draw(record: RunRecord, kept: Path) -> dict[Axis, bytes]:
    """The pictures whose numbers were measured, as PNG.

    `kept` is a folder of pictures by the digest of what they show: importing matplotlib and drawing takes 1.5 s, half
    of what a cached run may take.
    """
    axes: tuple[Axis, ...] = ("size", "speed")
    return {axis: _kept(record, axis, kept) for axis in axes if points(record, axis)}


def quality_against(record: RunRecord, x: Axis) -> bytes:
    """A PNG of the change of perplexity against size or speed.

    Raises:
        ValueError: fewer than two stages were measured in both.
    """
    shown = points(record, x)
    if not shown:
        raise ValueError(f"fewer than two stages have both perplexity and {X_METRICS[x]}")
    return _render(shown, x, _limit(record), _caption(record))


def points(record: RunRecord, x: Axis) -> list[Point]:
    """Every stage with both numbers; none when there are fewer than two."""
    found = [point for stage in record.stages if (point := _point(stage, x))]
    return found if len(found) > 1 else []


def _point(stage: StageRecord, x: Axis) -> Point | None:
    metrics = stage.report.metrics if stage.report else {}
    across, quality = metrics.get(X_METRICS[x]), metrics.get("perplexity")
    if across is None or quality is None or (quality.relative is None and stage.role != "reference"):
        return None
    failed = any(not verdict.passed for verdict in stage.verdicts)
    precision = stage.facts.get("precision")
    return Point(
        label=f"{stage.stage}\n{precision}" if isinstance(precision, str) else stage.stage,
        group="reference" if stage.role == "reference" else "over budget" if failed else "within budget",
        x=_bounds(across, 1e-6 if x == "size" else 1),
        y=_percent(quality.relative),
    )


def _bounds(metric: Metric, factor: float) -> tuple[float, float, float]:
    return metric.value * factor, metric.low * factor, metric.high * factor


def _percent(relative: Interval | None) -> tuple[float, float, float]:
    if relative is None:
        return 0.0, 0.0, 0.0
    return relative.value * 100, relative.low * 100, relative.high * 100


def _limit(record: RunRecord) -> float | None:
    limits = [b.max_regression for b in record.budgets if b.metric == "perplexity" and b.relative]
    return limits[0] * 100 if limits and limits[0] is not None else None


def _caption(record: RunRecord) -> str:
    return " · ".join(filter(None, [record.name, record.data.name if record.data else "", record.device.cpu]))


def _kept(record: RunRecord, x: Axis, kept: Path) -> bytes:
    shown = ([astuple(point) for point in points(record, x)], x, _limit(record), _caption(record), STYLE_VERSION)
    path = kept / f"{hashlib.sha256(repr(shown).encode()).hexdigest()[:32]}.png"
    if path.exists():
        return path.read_bytes()
    png = quality_against(record, x)
    kept.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_bytes(png)
    beside.replace(path)
    return png


def _render(shown: list[Point], x: Axis, limit: float | None, caption: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for point in shown:
        _place(axes, point)
    _frame(axes, shown, x, limit)
    axes.set_title(f"Quality against {x}", loc="left", fontsize=13, fontweight="bold", pad=24)
    axes.annotate(
        caption, (0, 1), xycoords="axes fraction", xytext=(0, 8), textcoords="offset points", fontsize=9,
        color=COLOURS["reference"],
    )  # fmt: skip
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _place(axes: Axes, point: Point) -> None:
    colour = COLOURS[point.group]
    bars = [[[value - low], [high - value]] for value, low, high in (point.x, point.y)]
    axes.errorbar(
        [point.x[0]], [point.y[0]], xerr=bars[0], yerr=bars[1], color=colour, capsize=3, elinewidth=1.2,
        marker=MARKERS[point.group], markersize=8, linestyle="none", zorder=3,
    )  # fmt: skip
    axes.annotate(
        point.label, (point.x[0], point.y[0]), xytext=(9, 7), textcoords="offset points", fontsize=9, color=colour,
        linespacing=1.15,
    )  # fmt: skip


def _frame(axes: Axes, shown: list[Point], x: Axis, limit: float | None) -> None:
    if limit is not None:
        axes.axhline(limit, color=COLOURS["over budget"], linestyle="--", linewidth=1)
        axes.annotate(
            f"budget +{limit:g}%", (1, limit), xycoords=("axes fraction", "data"), xytext=(-4, 4),
            textcoords="offset points", ha="right", color=COLOURS["over budget"], fontsize=9,
        )  # fmt: skip
    groups = {point.group for point in shown}
    handles = [
        axes.plot([], [], MARKERS[g], color=COLOURS[g], markersize=7, label=g)[0] for g in COLOURS if g in groups
    ]
    axes.legend(handles=handles, frameon=False, fontsize=9, loc="best")
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel("change of perplexity, %  (lower is better)")
    axes.set_xlim(0, max(point.x[2] for point in shown) * 1.2)
    axes.margins(y=0.2)
    axes.grid(visible=True, color="#eaeef2", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
