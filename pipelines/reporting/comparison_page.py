"""Several runs on one page: a row a config, and quality against speed and size as a picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pipelines.comparing_runs import result_of
from pipelines.measures import Interval
from pipelines.records import RunRecord
from pipelines.reporting.comparison_table import columns_of, row
from pipelines.reporting.page import Block, Grid, Heading, Paragraph, Picture, html
from pipelines.reporting.plots import COLOURS, MARKERS
from pipelines.reporting.table import of_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Comparison"
Bars = tuple[float, float, float]
"""A value, its low and its high."""


def page(records: list[RunRecord]) -> str:
    """One HTML file, with the picture where any run was measured."""
    columns = columns_of(records[0])
    header = ("config", *(title for title, _ in columns), "size", "memory", "made in", "verdict")
    rows = tuple(tuple(row(record, columns)) for record in records)
    device = records[0].device
    blocks: list[Block] = [
        Heading(TITLE, 1),
        Paragraph(f"{len(records)} configs over the same model and data, measured on {device.cpu}, {device.system}."),
        Grid(header, rows, frozenset(header[1:-1])),
    ]
    if png := chart(records):
        blocks.append(Picture(png, "quality against speed and size, with 95% intervals"))
    return html(TITLE, blocks)


def points(records: list[RunRecord]) -> list[tuple[RunRecord, Bars, Bars, float]]:
    """Of each measured run: speed ratio to its reference, quality in percent, and size in MB.

    Quality is the share of unchanged top-1 answers for images, the relative change of perplexity for text.
    """
    found = []
    for record in records:
        stage = result_of(record)
        metrics = stage.report.metrics if stage and stage.report else {}
        speed, quality = metrics.get("speed_ratio"), metrics.get(_quality(record))
        measured = quality.interval if quality and of_images(record) else quality.relative if quality else None
        if stage and speed and measured:
            found.append((record, _bars(speed.interval, 1), _bars(measured, 100), stage.size_bytes / 1e6))
    return found


def chart(records: list[RunRecord]) -> bytes | None:
    """A PNG of two panels with one quality axis; None where no run was measured in both quality and speed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = points(records)
    if not shown:
        return None
    figure = Figure(figsize=(10, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    fast, small = figure.subplots(1, 2, sharey=True)
    for record, speed, quality, size in shown:
        group = "within budget" if record.status == "passed" else "over budget"
        for axes, across in ((fast, speed), (small, (size, size, size))):
            _place(axes, across, quality, record.name, group)
    fast.set_xlim(0, max(speed[2] for _, speed, _, _ in shown) * 1.35)
    small.set_xlim(0, max(size for _, _, _, size in shown) * 1.35)
    fast.set_xlabel(
        "speed-up" + (", against the float version" if of_images(records[0]) else ", against the reference")
    )
    small.set_xlabel("size on disk, MB")
    fast.set_ylabel("unchanged top-1 answers, %" if of_images(records[0]) else "change of perplexity, %")
    for axes in (fast, small):
        axes.margins(y=0.25)
        axes.grid(visible=True, color="#eaeef2", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _place(axes: Axes, across: Bars, up: Bars, label: str, group: str) -> None:
    bars = [[[value - low], [high - value]] for value, low, high in (across, up)]
    axes.errorbar(
        [across[0]], [up[0]], xerr=bars[0], yerr=bars[1], color=COLOURS[group], capsize=3, marker=MARKERS[group],
        markersize=8, linestyle="none", zorder=3,
    )  # fmt: skip
    axes.annotate(
        label, (across[0], up[0]), xytext=(8, 7), textcoords="offset points", fontsize=8, color=COLOURS[group]
    )


def _quality(record: RunRecord) -> str:
    return "top1_agreement" if of_images(record) else "perplexity"


def _bars(measured: Interval, factor: float) -> Bars:
    return measured.value * factor, measured.low * factor, measured.high * factor
