"""A plan on one screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.planner.answer import Band, Plan
from pipelines.planner.explanations import explained
from pipelines.quantities import size

COLOURS = {"FEASIBLE": "bold green", "WARM_ONLY": "bold yellow", "INFEASIBLE": "bold red"}


def show(plan: Plan, console: Console, whole: bool = False) -> None:
    """Print it; `whole` lists every rejected option."""
    console.print(Group(*_parts(plan, whole)), highlight=False)


def _parts(plan: Plan, whole: bool) -> Iterator[RenderableType]:
    devices = f"{plan.devices} x {plan.hardware}" if plan.devices > 1 else plan.hardware
    chosen = f": {plan.chosen.option}" if plan.chosen else ""
    yield Text.assemble((plan.verdict, COLOURS[plan.verdict]), f"  {plan.model} on {devices}{chosen}")
    yield Text(f"stop   {plan.stop}")
    if plan.binding:
        yield Text(f"binds  {plan.binding}")
    if plan.nearest:
        yield Text(f"nearest feasible: {plan.nearest}")
    if plan.hours is not None:
        dollars = f", ${plan.dollars:.2f}" if plan.dollars is not None else ""
        yield Text(f"batch  {plan.hours:.1f} h{dollars}")
    yield _levers(plan)
    yield _predictions(plan)
    yield _rejected(plan, whole)
    if plan.challenger:
        yield Text(f"challenger  {plan.challenger.option}: {plan.challenger.gain}; {plan.challenger.gate}")
    if plan.variations:
        yield Text(f"if  {_variations(plan)}")
    yield Text("\n".join(f"assumed  {text}" for text in plan.assumptions), style="dim")
    for text in plan.warnings:
        yield Text(f"warning  {text}", style="yellow")


def _levers(plan: Plan) -> Table:
    table = Table("", "lever", "attacks", "after", box=None, title="levers", title_justify="left")
    if plan.levers:
        table.add_row("", "start", "", plan.levers[0].before, style="dim")
    for item in plan.levers:
        table.add_row(item.id, f"{item.name} ({item.reason})", item.label or "-", item.after)
    return table


def _predictions(plan: Plan) -> Table:
    table = Table("", "predicted", "90% within", box=None, title="predictions", title_justify="left")
    for band in plan.predictions:
        within = f"{_amount(band.low, band)}..{_amount(band.high, band)}"
        table.add_row(band.name, _amount(band.value, band), f"{within}  {band.rating}".rstrip())
    found = plan.chosen.prediction if plan.chosen else None
    if found is not None:
        low = ", target > 70%; decoding is often < 30%" if found.device_utilisation < 0.3 else ""
        table.add_row("KV utilisation", f"{found.kv_utilisation:.0%}", "paged about 95%, contiguous 60-70%")
        table.add_row("device utilisation", f"{found.device_utilisation:.0%}", f"of the peak{low}")
        table.add_row("sequences", f"B {found.batch}, N {found.concurrency}", f"B* {found.crossover:.0f}")
    return table


def _amount(value: float, band: Band) -> str:
    if band.unit == "bytes":
        return size(value)
    said = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return f"${said}" if band.unit == "$" else f"{said} {band.unit}"


def _rejected(plan: Plan, whole: bool) -> Table:
    """Of the options of one format only the first, unless all are asked for."""
    table = Table(box=None, title="rejected", title_justify="left", show_header=False)
    table.add_column(no_wrap=True, min_width=max((len(item.what) for item in plan.rejected), default=0))
    table.add_column(no_wrap=not whole, overflow="ellipsis")
    told = set()
    for item in plan.rejected:
        form = item.what.split(" ")[0]
        if whole or form not in told or "on" not in item.what.split(" "):
            table.add_row(item.what, item.why)
        told.add(form)
    if table.row_count < len(plan.rejected):
        table.add_row(f"and {len(plan.rejected) - table.row_count} more: --all", "", style="dim")
    return table


def _variations(plan: Plan) -> str:
    """Those that change the plan; where none does, that."""
    now = (plan.verdict, str(plan.chosen.option) if plan.chosen else "none")
    changed = [f"{v.what}: {v.verdict} {v.chosen}" for v in plan.variations if (v.verdict, v.chosen) != now]
    kept = len(plan.variations) - len(changed)
    return "; ".join([*changed, f"the same at {kept} of {len(plan.variations)} halved and doubled inputs"])


def explain(lever: str, plan: Plan | None) -> str:
    """What a lever is in general, and what became of it in this plan."""
    item = explained(lever)
    said = [
        f"{lever.upper()}  {item.name}",
        f"when      {item.when}",
        f"gain      {item.gain}",
        f"quality   {item.quality}",
        f"needs     {item.needs}",
        f"stop when {item.stop}",
    ]
    if plan is not None:
        pulled = [found for found in plan.levers if found.id.lower() == lever.lower()]
        left = [found for found in plan.rejected if found.what.lower().split(" ")[0] == lever.lower()]
        said += [
            f"here      pulled at {found.label or 'no label'}: {found.before} -> {found.after}" for found in pulled
        ]
        said += [f"here      left alone: {found.why}" for found in left]
        if not pulled and not left:
            said.append(f"here      not needed: {plan.stop}")
    return "\n".join(said)
