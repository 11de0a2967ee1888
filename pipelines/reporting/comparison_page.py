"""Several runs on one page: a row a config, and quality against speed and size as a picture."""

from __future__ import annotations

from pipelines.records import RunRecord
from pipelines.reporting.comparison_picture import chart
from pipelines.reporting.comparison_table import columns_of, head, row
from pipelines.reporting.page import Block, Grid, Heading, Paragraph, Picture, html

TITLE = "Comparison"


def page(records: list[RunRecord]) -> str:
    """One HTML file, with the picture where any run was measured."""
    columns = columns_of(records)
    header = tuple(head(records, columns))
    rows = tuple(tuple(row(record, columns)) for record in records)
    device = records[0].device
    blocks: list[Block] = [
        Heading(TITLE, 1),
        Paragraph(f"{len(records)} configs over the same model and data, measured on {device.cpu}, {device.system}."),
        Grid(header, rows, frozenset(header[1:-1]) - {"method"}),
    ]
    if png := chart(records):
        blocks.append(Picture(png, "quality against speed and size, with 95% intervals; the line is the Pareto front"))
    return html(TITLE, blocks)
