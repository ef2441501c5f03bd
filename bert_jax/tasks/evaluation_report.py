"""What `evaluate` leaves for readers: report.md, and report.html with the plots in it."""

import base64
import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MARKDOWN, HTML = "report.md", "report.html"
TEXT_CHARACTERS = 200  # of a longer text the beginning is shown
NOT_DEFINED = "–"

Cell = str | int | float


class Table(NamedTuple):
    """A float is written with four digits, and every column with a number on the right."""

    title: str
    note: str  # what the numbers are; "" = as the header says
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Plot(NamedTuple):
    """Its numbers stand in a table beside it, which Markdown has to do with."""

    title: str
    note: str
    png: bytes


class Heading(NamedTuple):
    """What the sections below are of."""

    title: str
    note: str


Section = Table | Plot | Heading


def metric_table(metrics: Mapping[str, float], errors: Mapping[str, float], note: str) -> Table:
    """Every metric, with its standard error where that is defined."""
    rows = [(name, value, errors.get(name, NOT_DEFINED)) for name, value in metrics.items()]
    return Table("Metrics", note, ("metric", "value", "standard error"), rows)


def files(title: str, sections: Sequence[Section]) -> dict[str, str]:
    """Both files, by name."""
    return {MARKDOWN: _markdown(title, sections), HTML: _html(title, sections)}


def shortened(text: str) -> str:
    """On one line, and no longer than a table can bear."""
    text = " ".join(text.split())
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines for a terminal, every column as wide as it needs to be and flush right."""
    widths = [max(map(_terminal_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            " " * (width - _terminal_width(cell)) + cell
            for cell, width in zip(row, widths, strict=True)
        )
        for row in rows
    ]


def _terminal_width(text: str) -> int:
    """Chinese characters take two places."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _written(cell: Cell) -> str:
    if isinstance(cell, str):
        return shortened(cell)
    return f"{cell:.4f}" if isinstance(cell, float) else f"{cell:,}"


def _is_number(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows if row[column] != NOT_DEFINED]
    return bool(cells) and not any(isinstance(cell, str) for cell in cells)


def _markdown(title: str, sections: Sequence[Section]) -> str:
    lines = [f"# {_escaped(title)}"]
    for section in sections:
        level = "##" if isinstance(section, Heading) else "###"
        lines += ["", f"{level} {_escaped(section.title)}", ""]
        if isinstance(section, Plot):
            lines += [f"The plot is in {HTML}."]
        if section.note:
            lines += [_escaped(section.note), ""]
        if isinstance(section, Table):
            columns = range(len(section.header))
            ends = ["---:" if _is_number(section, column) else "---" for column in columns]
            rows = [section.header, *section.rows]
            written = [[_escaped(_written(cell)) for cell in row] for row in rows]
            written.insert(1, ends)
            lines += [f"| {' | '.join(cells)} |" for cells in written]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """As Markdown that shows these very characters."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(text, quote=False))


# System fonts only, and nothing that would have to be fetched.
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left }
td { overflow-wrap: anywhere; vertical-align: top }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
p { color: #555; margin: .25rem 0 .75rem } img { max-width: 100% }
"""


def _html(title: str, sections: Sequence[Section]) -> str:
    name = html.escape(title)
    lines = [
        '<!doctype html>\n<html><head><meta charset="utf-8">',
        f"<title>{name}</title>\n<style>{STYLE}</style></head>\n<body><h1>{name}</h1>",
    ]
    for section in sections:
        level = "h2" if isinstance(section, Heading) else "h3"
        lines += [f"<{level}>{html.escape(section.title)}</{level}>"]
        if section.note:
            lines += [f"<p>{html.escape(section.note)}</p>"]
        if isinstance(section, Table):
            lines += _html_table(section)
        elif isinstance(section, Plot):
            data = base64.b64encode(section.png).decode()
            alt = html.escape(section.title)
            lines += [f'<img alt="{alt}" src="data:image/png;base64,{data}">']
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _html_table(table: Table) -> list[str]:
    columns = range(len(table.header))
    kinds = [' class="number"' if _is_number(table, column) else "" for column in columns]

    def line(cells: Sequence[Cell], tag: str) -> str:
        written = (
            f"<{tag}{kind}>{html.escape(_written(cell))}</{tag}>"
            for cell, kind in zip(cells, kinds, strict=True)
        )
        return f"<tr>{''.join(written)}</tr>"

    return ["<table>", line(table.header, "th"), *[line(r, "td") for r in table.rows], "</table>"]
