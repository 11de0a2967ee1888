"""The audit as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipelines.planner.audit import Row


def audit_table(rows: Sequence[Row], title: str) -> Table:
    """Median and p90 of the absolute error of each figure, its goal, and UNTRUSTED where it must say so."""
    table = Table("", "n", "median", "p90", "goal", "", title=title, title_justify="left", box=None)
    for row in rows:
        goal = f"{row.goal_median:.0%} / {row.goal_p90:.0%}"
        said = "UNTRUSTED" if row.untrusted else "met" if row.met else "missed"
        table.add_row(row.metric, str(row.n), f"{row.median:.1%}", f"{row.p90:.1%}", goal, said)
    return table
