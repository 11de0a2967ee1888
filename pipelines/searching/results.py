"""The end of a search: its record, table, plot, and the chosen point's config as a file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines import yaml_text
from pipelines.measures import Interval, metric
from pipelines.quantities import duration
from pipelines.reporting import display
from pipelines.searching.trials import CHANGE, SearchRecord, Trial

AXES = ("size_bytes", "perplexity", "accuracy_top1", "cosine_agreement", "tbt_p50_ms", "latency_p50_ms")
"""Size, quality and speed: what the front is drawn over, as far as it was measured."""
COLOURS = {"passed": "#1f6feb", "over budget": "#b42318", "pruned": "#8c959f", "failed": "#b42318"}
MARKERS = {"passed": "o", "over budget": "X", "pruned": ".", "failed": "x"}
SHOWN_REASONS = 4
PLACES = ("source", "weights", "data", "evaluation", "calibration", "training")
"""Keys under which configs name files."""


def axes_of(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Those of the axes that everything measured in full has."""
    full = [trial for trial in trials if trial.look == "full" and trial.verdict == "passed"]
    return tuple(name for name in AXES if full and all(name in trial.figures for trial in full))


def table(record: SearchRecord) -> RenderableType:
    """The front, the chosen point marked, and what became of the rest."""
    axes = axes_of(record.trials)
    shown = Table("", "trial", *(["change"] if _compared(record) else []), *axes, box=None)
    for number in record.front:
        trial = record.trial(number)
        cells = [display.change_of(trial.figures[CHANGE])] if _compared(record) else []
        cells += [_cell(trial, name) for name in axes]
        mark = "chosen" if number == record.chosen else ""
        shown.add_row(mark, f"{number}  {trial.label}", *cells, style="bold" if mark else "")
    return Group(shown, Text("\n".join(_lines(record))))


def _compared(record: SearchRecord) -> bool:
    return all(CHANGE in record.trial(number).figures for number in record.front) and bool(record.front)


def _cell(trial: Trial, name: str) -> str:
    found = trial.figures[name]
    return display.value(metric(name, found, 1, ""))


def _lines(record: SearchRecord) -> list[str]:
    measured = sum(trial.look == "full" for trial in record.trials)
    early = sum(trial.look == "early" for trial in record.trials)
    ruled = sum(trial.look == "none" for trial in record.trials)
    said = [
        f"{record.right} points of {record.space}: {measured} measured in full, {early} given up after a first look, "
        f"{ruled} ruled out before they were made; {record.count('over budget')} over budget, "
        f"{record.count('failed')} failed; {duration(record.seconds)}",
        record.stopped,
    ]
    failed = [f"failed  {trial.label}: {trial.reason.splitlines()[0]}" for trial in record.trials
              if trial.verdict == "failed"]  # fmt: skip
    return [*failed[:SHOWN_REASONS], *said]


def picture(record: SearchRecord, limit: float | None) -> bytes | None:
    """A PNG of quality against size, speed in words: every point measured, the front as a line; None without two.

    `limit` is the relative rise of perplexity that is allowed.
    """
    drawn = [trial for trial in record.trials if _quality(trial) and "size_bytes" in trial.figures]
    if len(drawn) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for trial in drawn:
        _place(axes, trial)
    line = [_at(record.trial(number)) for number in record.front]
    axes.plot([at[0] for at in line], [at[1] for at in line], color=COLOURS["passed"], linewidth=1)
    if record.chosen is not None:
        axes.plot(*_at(record.trial(record.chosen)), "o", markersize=14, fillstyle="none", color=COLOURS["passed"])
    by_loss = CHANGE in drawn[0].figures
    if limit is not None and by_loss:
        axes.axhline(limit * 100, color=COLOURS["over budget"], linestyle="--", linewidth=1)
    quality = "top-1 accuracy, %" if "accuracy_top1" in drawn[0].figures else "agreement of embeddings, %"
    axes.set(xlabel="size on disk, MB", ylabel="change of perplexity, %" if by_loss else quality)
    axes.set_title(f"{record.name}: blue passed, red over budget, small first looks", loc="left")
    axes.grid(visible=True, color="#eaeef2", zorder=0)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _quality(trial: Trial) -> Interval | None:
    """What stands for quality: the change of perplexity, else the accuracy, else the embeddings' agreement."""
    names = (CHANGE, "accuracy_top1", "cosine_agreement")
    return next((trial.figures[name] for name in names if name in trial.figures), None)


def _place(axes: Any, trial: Trial) -> None:
    (x, y), found, early = _at(trial), _quality(trial), trial.look == "early"
    assert found is not None
    axes.errorbar(
        [x], [y], yerr=[[y - 100 * found.low], [100 * found.high - y]], color=COLOURS[trial.verdict],
        marker=MARKERS[trial.verdict], markersize=4 if early else 8, linestyle="none", alpha=0.6 if early else 1.0,
    )  # fmt: skip
    axes.annotate(told(trial), (x, y), xytext=(6, 4), textcoords="offset points", fontsize=6)


def told(trial: Trial) -> str:
    """A point's name in the picture, with its speed where that was measured: the third axis of the front."""
    speed = next((trial.figures[name] for name in ("tbt_p50_ms", "latency_p50_ms") if name in trial.figures), None)
    return trial.label if speed is None else f"{trial.label}, {speed.value:.3g} ms"


def _at(trial: Trial) -> tuple[float, float]:
    found = _quality(trial)
    assert found is not None
    return trial.figures["size_bytes"].value / 1e6, 100 * found.value


def write_config(text: str, origin: Path, path: Path) -> Path:
    """The chosen point's config as a file of its own; what its paths name stays the same from there."""
    heading, _, _ = text.partition("\n")
    tree = yaml_text.load(text, str(path))
    if path.parent.resolve() != origin.parent.resolve():
        _anchor(tree, origin.parent.resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    body = yaml.safe_dump(tree, sort_keys=False, width=110)
    path.write_text(f"{heading}, found by tapeout search\n# tapeout run {path}\n{body}", encoding="utf-8")
    return path


def _anchor(node: Any, folder: Path) -> None:
    """Make every relative `path:` of source and data absolute, and the file of `python:`."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if (key == "path" and isinstance(value, str)) or (key == "python" and ".py:" in str(value)):
            node[key] = str(folder / value)
        elif key in PLACES:
            _anchor(value, folder)
