"""What each tensor loses at each type, left with a run as a table and a plot."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from stages._mixture import Sensitivity, TensorSensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PLOT = "sensitivity.csv", "sensitivity.png"
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
HEADER = ("tensor", "weights", "type", "bytes", "kl_nats", "measured")


def leave(sensitivity: Sensitivity, folder: Path) -> None:
    """Write sensitivity.csv, a row for each tensor and type, and sensitivity.png into the folder."""
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        rows.writerows(_rows(sensitivity))
    (folder / PLOT).write_bytes(_picture(sensitivity))


def _rows(sensitivity: Sensitivity) -> list[tuple[str, int, str, int, float, str]]:
    """The tensor that loses most first."""
    ordered = sorted(sensitivity.tensors, key=_loss, reverse=True)
    return [
        (
            tensor.name,
            tensor.elements,
            choice.type,
            choice.size_bytes,
            choice.kl,
            "yes" if choice.type == tensor.probe else "scaled",
        )
        for tensor in ordered
        for choice in tensor.choices
    ]


def _loss(tensor: TensorSensitivity) -> float:
    return max(choice.kl for choice in tensor.choices)


def _picture(sensitivity: Sensitivity) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    layers, whole = figure.subplots(1, 2)
    _by_layer(layers, sensitivity)
    _by_size(whole, sensitivity)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _by_layer(axes: Axes, sensitivity: Sensitivity) -> None:
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for tensor in sensitivity.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        # nats for a million weights: tensors of different sizes side by side
        found[match[2] if match else tensor.name.removesuffix(".weight")].append(
            (int(match[1]) if match else 0, _loss(tensor) / tensor.elements * 1e6)
        )
    for name, points in sorted(found.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, linewidth=1, label=name)
    axes.set(yscale="log", xlabel="layer", ylabel="KL divergence, nats a million weights")
    axes.set_title("Each tensor alone at its smallest type", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, ncols=2)


def _by_size(axes: Axes, sensitivity: Sensitivity) -> None:
    sizes = [point.size_bytes / 1e6 for point in sensitivity.points]
    axes.plot(sizes, [point.kl for point in sensitivity.points], marker="o", label="measured")
    axes.plot(sizes, [point.kl_expected for point in sensitivity.points], linestyle="--", label="sum of the tensors'")
    axes.set(yscale="log", xlabel="size of the tensors, MB", ylabel="KL divergence, nats a token")
    axes.set_title(f"Whole mixtures, {sensitivity.held_out_tokens:,} held-out tokens", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
