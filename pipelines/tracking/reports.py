"""A run's report, which MLflow's process writes: it is not MLflow's, and needs none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.records import RunRecord
from pipelines.tracking.lines import Closing, Line


def report(run: RunRecord, folder: Path, home: Path) -> None:
    """Write the run's report and its plots into the folder."""
    from pipelines.reporting.plots import draw
    from pipelines.reporting.report import write

    write(run, folder, draw(run, home / "mlflow" / "plots"))


def report_of_the_rest(home: Path, lines: Iterable[Line]) -> None:
    """Write the report alone, of a run that MLflow does not take."""
    for line in lines:
        if isinstance(line, Closing) and line.attachments.folder:
            report(line.run, line.attachments.folder, home)
