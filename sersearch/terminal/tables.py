"""Tables on a terminal: as many columns as fit, from the left, and a word on those that don't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from sersearch.errors import printable
from sersearch.report.cells import Sheet
from sersearch.report.text import table
from sersearch.terminal.screen import Screen, say

GAP = 2
WIDEST = 36
"""The widest that a column is before its cells are wrapped."""


def print_sheets(sheets: Sequence[Sheet], console: Screen, whole: str) -> None:
    """Print tables, each followed by those of its notes that were not said before.

    Args:
        sheets: the tables.
        console: where they are printed; Markdown if it is no terminal.
        whole: says where all columns are, for tables whose columns don't all fit.
    """
    said: set[str] = set()
    for sheet in sheets:
        if not console.is_terminal:
            # What follows right after a table would be a row of it.
            for line in ("", *table(sheet).split("\n"), *([""] if sheet is sheets[-1] else [])):
                console.say(line)
            continue
        widths = fitting_widths(sheet.columns, sheet.rows, console.width)
        console.print(Text(f"\n{printable(sheet.title)}", style="bold"))
        console.print(_table(sheet, widths))
        for note in _notes(sheet, len(widths), whole):
            if note not in said:
                console.say(note, "dim")
            said.add(note)


def show_sheets(sheets: Sequence[Sheet], markdown: str, whole: str, first: str | None = None) -> None:
    """Print tables to standard output: as such on a terminal, and as Markdown where it is piped.

    Args:
        sheets: the tables.
        markdown: what is printed where it is piped.
        whole: see `print_sheets`.
        first: a sentence above the tables.
    """
    console = Screen()
    if not console.is_terminal:
        say(markdown)
        return
    if first:
        console.say(first, "bold")
    print_sheets(sheets, console, whole)


def fitting_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of the columns that fit side by side, from the left; at least one.

    Cells are whole, up to `WIDEST`; headings are wrapped at their words where there is no room for them.

    Example:
        >>> fitting_widths(("model", "test UA (%)"), [("LDNN", "37.71 [28.0, 48.6]")], width=24)
        [5]
        >>> fitting_widths(("model", "best of"), [("LDNN", "12"), ("LDNN", "3")], width=11)
        [5, 4]
    """
    cells = [[row[number] for row in rows] for number in range(len(columns))]
    narrow = [_widest([*heading.split(), *of_one]) for heading, of_one in zip(columns, cells, strict=True)]
    wide = [_widest([heading, *of_one]) for heading, of_one in zip(columns, cells, strict=True)]
    widths = narrow[:1]
    while len(widths) < len(columns) and sum(narrow[: len(widths) + 1]) + GAP * len(widths) <= width:
        widths.append(narrow[len(widths)])
    spare = width - sum(widths) - GAP * (len(widths) - 1)
    for number in range(len(widths)):
        more = max(min(wide[number] - widths[number], spare), 0)
        widths[number] += more
        spare -= more
    return widths


def _widest(texts: Sequence[str]) -> int:
    return max((min(cell_len(text), WIDEST) for text in texts), default=0)


def _table(sheet: Sheet, widths: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, width in enumerate(widths):
        cells = [row[number] for row in sheet.rows]
        justify: Literal["left", "right"] = "right" if cells and all(map(_is_number, cells)) else "left"
        table.add_column(Text(printable(sheet.columns[number]), overflow="fold"), justify=justify, width=width)
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row[: len(widths)]))
    return table


def _is_number(cell: str) -> bool:
    return cell.rstrip("*").replace(",", "").replace(".", "").lstrip("+-–").isdigit() or cell == "–"


def _notes(sheet: Sheet, shown: int, whole: str) -> Iterator[str]:
    if missing := sheet.columns[shown:]:
        yield f"Not shown at this width: {', '.join(missing)}; {whole}."
    yield from sheet.notes
