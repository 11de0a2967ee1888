"""Several runs as a picture: quality against size and speed, each with its Pareto front."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from pipelines.measures import Interval
from pipelines.records import RunRecord
from pipelines.reporting.compared import metrics_of, size_of
from pipelines.reporting.pareto import front
from pipelines.reporting.plots import COLOURS, MARKERS
from pipelines.reporting.table import of_arrays, of_embeddings, of_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUALITIES = {
    "top1_agreement": "unchanged top-1 answers, %",
    "rank_agreement": "unchanged neighbours, %",
    "perplexity": "change of perplexity, %",
}
Bars = tuple[float, float, float]
"""A value, its low and its high."""
WIDE, FRONT = 20, "#8250df"  # percent beyond which small changes could not be told apart on a linear axis


@dataclass(frozen=True)
class Point:
    """One measured run. `quality` is the share of unchanged top-1 answers for images, of unchanged neighbours for
    encoders, the relative change of perplexity for text, in percent; `speed` the ratio to its reference, where taken.
    """

    record: RunRecord
    quality: Bars
    size_mb: float
    speed: Bars | None


def points(records: list[RunRecord]) -> list[Point]:
    """Every run that has a figure of quality."""
    found = []
    for record in records:
        metrics, bytes_ = metrics_of(record), size_of(record)
        quality, speed = metrics.get(_quality(record)), metrics.get("speed_ratio")
        measured = quality.interval if quality and of_arrays(record) else quality.relative if quality else None
        if measured and bytes_ is not None:
            at = _bars(speed.interval, 1) if speed else None
            found.append(Point(record, _bars(measured, 100), bytes_ / 1e6, at))
    return found


def chart(records: list[RunRecord]) -> bytes | None:
    """A PNG: quality against size and, where it was measured, speed, each with its Pareto front; None without any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, arrays = points(records), of_arrays(records[0])
    if not shown:
        return None
    timed = [point for point in shown if point.speed]
    figure = Figure(figsize=(12 if timed else 7, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    _panel(panels[-1], [(point, (point.size_mb,) * 3) for point in shown], "size on disk, MB", -1 if arrays else 1, 1)
    if timed:
        label = "speed-up" + (", against the float version" if arrays else ", against the reference")
        _panel(panels[0], [(p, p.speed) for p in timed if p.speed], label, -1 if arrays else 1, -1)
    panels[0].set_ylabel(QUALITIES[_quality(records[0])])
    if not arrays and max(point.quality[0] for point in shown) > WIDE:
        panels[0].set_yscale("symlog", linthresh=1)
    return _written(figure)


def _written(figure: Figure) -> bytes:
    figure.draw_without_rendering()  # names find their places when axes have theirs
    for panel in figure.axes:
        _apart(panel)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _panel(axes: Axes, placed: list[tuple[Point, Bars]], label: str, up_sign: int, across_sign: int) -> None:
    """Points, and the line through those that no other beats; a sign of -1 says that more is better."""
    start = _shared([point.record.name for point, _ in placed])
    for point, across in placed:
        group = "within budget" if point.record.status == "passed" else "over budget"
        _place(axes, across, point.quality, point.record.name[start:], group)
    best = front([(across_sign * across[0], up_sign * point.quality[0]) for point, across in placed])
    line = [(placed[number][1][0], placed[number][0].quality[0]) for number in best]
    axes.plot(*zip(*line, strict=True), color=FRONT, linewidth=1.2, zorder=2, drawstyle="steps-post")
    axes.set_xlim(0, max(across[2] for _, across in placed) * 1.3)
    axes.set_xlabel(label)
    axes.margins(y=0.25)
    axes.grid(visible=True, color="#eaeef2", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _shared(names: list[str]) -> int:
    """Where the names begin to differ, at the start of a part: `smollm2-135m-` says nothing beside its siblings."""
    parts = [name.split("-") for name in names]
    same = next((n for n, column in enumerate(zip(*parts, strict=False)) if len(set(column)) > 1), 0)
    return len("-".join([*parts[0][:same], ""])) if same else 0


def _place(axes: Axes, across: Bars, up: Bars, label: str, group: str) -> None:
    bars = [[[value - low], [high - value]] for value, low, high in (across, up)]
    axes.errorbar(
        [across[0]], [up[0]], xerr=bars[0], yerr=bars[1], color=COLOURS[group], capsize=3, marker=MARKERS[group],
        markersize=8, linestyle="none", zorder=3,
    )  # fmt: skip
    axes.text(across[0], up[0], f"   {label}", va="bottom", fontsize=7, color=COLOURS[group])


def _apart(axes: Axes) -> None:
    """Move names off each other and off the points, each with a line to its own; the same every time."""
    from adjustText import adjust_text

    lines = {"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.6}
    across, up = zip(*(text.get_position() for text in axes.texts), strict=True)
    markers = [drawn[0] for drawn in axes.containers]
    adjust_text(
        [*axes.texts], across, up, markers, ax=axes, iter_lim=100, expand=(1.05, 1.3), force_explode=0, arrowprops=lines
    )


def _quality(record: RunRecord) -> str:
    if of_embeddings(record):
        return "rank_agreement"
    return "top1_agreement" if of_images(record) else "perplexity"


def _bars(measured: Interval, factor: float) -> Bars:
    return measured.value * factor, measured.low * factor, measured.high * factor
