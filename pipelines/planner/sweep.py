"""Where the plan changes: the same question over a grid of one or two inputs, as a table and a picture."""

from __future__ import annotations

from io import BytesIO
from itertools import product
from math import inf, isfinite

from rich.table import Table

from pipelines.errors import UserError
from pipelines.mistakes import did_you_mean
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.planning import Question, verdict_of
from pipelines.planner.shapes import Encoder
from stages.base import Frozen

AXES = {
    "prompt_length": "prompt",
    "output_length": "output",
    "shared_prefix": "shared",
    "rate": "rate",
    "users": "users",
}
POINTS = 8
FEWEST, MOST = 1, 40


class Axis(Frozen):
    """An input and the values it takes."""

    name: str
    values: tuple[float, ...]


class Cell(Frozen):
    """The plan at one point of the grid."""

    at: tuple[float, ...]
    verdict: str
    chosen: str


def axes(text: str) -> list[Axis]:
    """`prompt_length=256:8192,rate=1:1000:6`: one or two inputs, from:to[:points], evenly spaced in ratio.

    Raises:
        UserError: an unknown input, or no range.
    """
    found = [_axis(part) for part in text.split(",")]
    if not 1 <= len(found) <= 2:
        raise UserError(f"--sweep {text}: one or two inputs can be swept", "prompt_length=256:8192,rate=1:1000")
    return found


def _axis(part: str) -> Axis:
    name, _, given = part.partition("=")
    if name not in AXES:
        raise UserError(f"--sweep: no input `{name}`", did_you_mean(name, AXES) or f"known: {', '.join(AXES)}")
    try:
        low, high, *rest = (float(number) for number in given.split(":"))
    except ValueError as error:
        raise UserError(f"--sweep {part}: no range", f"{name}=256:8192, or {name}=256:8192:6") from error
    points = int(rest[0]) if rest and isfinite(rest[0]) else 0 if rest else POINTS
    if not (0 < low < high < inf and FEWEST < points <= MOST):
        raise UserError(f"--sweep {part}: needs 0 < from < to and 2 to {MOST} points")
    if low < 1 and name != "rate":
        raise UserError(f"--sweep {part}: {name} is counted: from 1 on")
    values = [low * (high / low) ** (step / (points - 1)) for step in range(points)]
    whole = name != "rate"
    return Axis(name=name, values=tuple(float(round(value)) if whole else value for value in values))


def check(question: Question, over: list[Axis]) -> None:
    """Refuse what would change nothing.

    Raises:
        UserError: the model is an encoder, or a load is swept that the question has none of.
    """
    if isinstance(question.model, Encoder):
        raise UserError("--sweep: an encoder has no prompt and no cache to sweep over", "vary --ttft instead")
    swept = {axis.name for axis in over} & {"rate", "users"}
    if swept and question.work.documents:
        raise UserError(f"--sweep {swept.pop()}: the load is {question.work.streams}", "leave --documents out")
    if len(swept) > 1:
        raise UserError("--sweep: a rate and a number of users are different questions", "sweep one of them")


def sweep(question: Question, over: list[Axis], calibrations: Calibrations) -> list[Cell]:
    """The verdict at every point."""
    cells = []
    for at in product(*(axis.values for axis in over)):
        changes: dict[str, object] = {}
        for axis, value in zip(over, at, strict=True):
            changes[AXES[axis.name]] = value if axis.name == "rate" else int(value)
        load = {"rate", "users"} & set(changes)
        changes |= {"rate": None, "users": None, **changes} if load else {}
        work = question.work.model_copy(update=changes)
        work = work.model_copy(update={"shared": min(work.shared, work.prompt - 1)})
        verdict, chosen = verdict_of(question.model_copy(update={"work": work}), calibrations)
        cells.append(Cell(at=at, verdict=verdict, chosen=chosen))
    return cells


def table(over: list[Axis], cells: list[Cell]) -> Table:
    """A row a point; a line where the plan changes."""
    shown = Table(*[axis.name for axis in over], "verdict", "chosen", box=None)
    last = ""
    for cell in cells:
        if last and cell.chosen + cell.verdict != last:
            shown.add_section()
        shown.add_row(*[f"{value:.4g}" for value in cell.at], cell.verdict, cell.chosen)
        last = cell.chosen + cell.verdict
    return shown


def picture(over: list[Axis], cells: list[Cell], title: str) -> bytes:
    """A PNG: a colour a plan, a cross where none is feasible."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    plans = sorted({cell.chosen for cell in cells})
    for number, plan in enumerate(plans):
        for verdict, marker in (("FEASIBLE", "o"), ("WARM_ONLY", "^"), ("INFEASIBLE", "x")):
            there = [cell.at for cell in cells if cell.chosen == plan and cell.verdict == verdict]
            if there:
                across, up = [at[0] for at in there], [at[1] if len(at) > 1 else 0.0 for at in there]
                label = f"{plan} {'' if verdict == 'FEASIBLE' else verdict}".strip()
                axis.plot(across, up, marker, color=f"C{number}", label=label)
    axis.set_xscale("log")
    axis.set_xlabel(over[0].name)
    if len(over) > 1:
        axis.set_yscale("log")
        axis.set_ylabel(over[1].name)
    else:
        axis.set_yticks([])
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()
