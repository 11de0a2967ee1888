"""The audit as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipelines.planner.audit import POINTS, Row


def audit_table(rows: Sequence[Row], title: str) -> Table:
    """Median and p90 of the absolute error of each figure, its goal, and UNTRUSTED where it must say so."""
    table = Table("", "n", "median", "p90", "goal", "", title=title, title_justify="left", box=None)
    for row in rows:
        goal = " / ".join(_error(row.metric, each, 0) for each in (row.goal_median, row.goal_p90))
        said = "UNTRUSTED" if row.untrusted else "met" if row.met else "missed"
        found = (_error(row.metric, each, 1) for each in (row.median, row.p90))
        table.add_row(row.metric, str(row.n), *found, goal, said)
    return table


def _error(metric: str, value: float, digits: int) -> str:
    return f"{value:.{digits + 1}f}" if metric in POINTS else f"{value:.{digits}%}"
