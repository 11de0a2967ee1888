"""A page of headings, sentences, tables and code, written as Markdown or as self-contained HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

VERDICTS = {
    "PASSED": "pass",
    "pass": "pass",
    "FAIL": "fail",
    "HALTED": "fail",
    "FAILED": "fail",
    "INTERRUPTED": "fail",
    "flagged": "flag",
}
VERDICT = re.compile(rf"(?<![\w./-])(?:{'|'.join(VERDICTS)})(?![\w./-])")
CSS = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #5b6570; --line: #d8dee4; --pass: #1a7f37; --fail: #b42318;
  --flag: #9a6700; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; } td.number { text-align: right; white-space: nowrap; }
th.number { text-align: right; } code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #f6f8fa; padding: .8rem 1rem; overflow-x: auto; border-radius: 6px; }
code { overflow-wrap: anywhere; } figure { margin: 1rem 0; } img { max-width: 100%; } .pass { color: var(--pass); }
.fail { color: var(--fail); } .flag { color: var(--flag); } .pass, .fail, .flag { font-weight: 600; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } pre { white-space: pre-wrap; }
  h2, h3 { break-after: avoid; } tr, figure { break-inside: avoid; } .scroll { overflow: visible; } }
"""


@dataclass(frozen=True)
class Heading:
    """A title; level 1 opens the page."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two; `code` between backticks."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table. A line break inside a cell is kept; columns named in `numbers` are set flush right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Code:
    """Text as it is."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, in HTML only: the Markdown page stands alone as text."""

    png: bytes
    caption: str


Block = Heading | Paragraph | Items | Grid | Code | Picture


def markdown(blocks: list[Block]) -> str:
    """GitHub-flavoured Markdown."""
    return "\n\n".join(filter(None, (_markdown(block) for block in blocks))) + "\n"


def html(title: str, blocks: list[Block]) -> str:
    """One HTML file: style and pictures inside, no script, nothing fetched."""
    body = "\n".join(_html(block) for block in blocks)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n'


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Grid(header, rows, numbers):
            rule = ["---:" if name in numbers else "---" for name in header]
            return "\n".join(f"| {' | '.join(row)} |" for row in [_cells(header), rule, *map(_cells, rows)])
        case Code(text, language):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}{language}\n{text.rstrip()}\n{fence}"
        case Picture():
            return ""


def _cells(row: tuple[str, ...]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", "<br>") for cell in row]


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{_inline(text)}</li>" for text in texts) + "</ul>"
        case Grid():
            return f'<div class="scroll"><table>{"".join(_rows(block))}</table></div>'
        case Code(text, _):
            return f"<pre><code>{escape(text.rstrip())}</code></pre>"
        case Picture(png, caption):
            source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
            return f'<figure><img src="{source}" alt="{escape(caption)}"></figure>'


def _rows(grid: Grid) -> Iterator[str]:
    classes = [' class="number"' if name in grid.numbers else "" for name in grid.header]
    heads = zip(classes, grid.header, strict=True)
    yield "<thead><tr>" + "".join(f"<th{css}>{_inline(cell)}</th>" for css, cell in heads) + "</tr></thead>"
    for row in grid.rows:
        cells = zip(classes, row, strict=True)
        yield "<tr>" + "".join(f"<td{css}>{_inline(cell)}</td>" for css, cell in cells) + "</tr>"


def _inline(text: str) -> str:
    """Escaped, with `code` and **bold** set, and words of verdict coloured."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    text = VERDICT.sub(lambda word: f'<span class="{VERDICTS[word[0]]}">{word[0]}</span>', text)
    return text.replace("\n", "<br>")
