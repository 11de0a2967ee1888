"""The note on a run in MLflow's interface."""

from __future__ import annotations

from pipelines.quantities import duration, size
from pipelines.records import RunRecord
from pipelines.tracking.tags import word


def description(run: RunRecord) -> str:
    """In Markdown: what came out, did it pass, what each stage cost."""
    rows = [
        f"| {record.stage} | {duration(record.seconds)}{' (cached)' if record.cached else ''} "
        f"| {duration(record.evaluation_seconds)} | {size(record.size_bytes)} | {word(record)} |"
        for record in run.stages
    ]
    heading = "| stage | made in | measured in | size | verdict |\n|---|---|---|---|---|"
    serve = f"Serve it: `{run.serve}`" if run.serve else ""
    return "\n\n".join(filter(None, [f"**{run.status}** {run.message}".strip(), serve, "\n".join([heading, *rows])]))
