"""The report as one HTML page that opens from disk: no network, no other file, nothing to install."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps

from sersearch.errors import printable
from sersearch.evaluation.leaderboard import Candidates
from sersearch.report import cells, overview, sheets
from sersearch.report.charts import chart_data, group_title
from sersearch.report.facts import Facts, Row, format_settings
from sersearch.report.landscape import Landscape, landscape
from sersearch.report.modules import module_sheets
from sersearch.report.text import comma_separated
from sersearch.run.ledger import Result

# Beyond so many cells a map shows colours alone; its figures show where the pointer is.
LEGIBLE_CELLS = 400


@dataclass(frozen=True)
class Shade:
    """One coloured cell of a landscape: what it says, its colour, and a colour to write on it."""

    text: str
    background: str
    ink: str


def page(facts: Facts) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("sersearch.report", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Escaped for HTML afterwards; what is markup already is of another type.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    conditions = overview.reading_order(facts)
    rows = [row for condition in conditions for row in facts.ranked(condition)]
    numbers = {id(row): number for number, row in enumerate(rows)}
    entries = overview.entries(facts)
    return environment.get_template("page.html").render(
        facts=facts,
        conditions=conditions,
        rows=rows,
        entries=entries,
        numbers_of=lambda row: numbers[id(row)],
        several_spaces=overview.several_spaces(entries),
        headline=overview.headline(facts),
        about=overview.about(facts),
        verdicts=[each.verdict for each in facts.robustness if each.claims],
        last_finished=overview.last_finished(facts),
        group_title=group_title,
        leaderboards=dict(zip(facts.conditions, sheets.leaderboards(facts), strict=True)),
        evidence=sheets.evidence(facts) + module_sheets(facts),
        maps=_maps(facts),
        chance=100 / len(facts.run.store.emotions),
        command=_command,
        commit=_commit,
        confusion=_confusion,
        shades=_shades,
        plural=_plural,
        percent=cells.percent,
        bounds=cells.bounds,
        against_next=cells.against_next,
        beside_paper=cells.beside_paper,
        best_of_row=sheets.best_of_row,
        ranks=sheets.ranks,
        settings=cells.settings,
        file_name=cells.file_name,
        format_settings=format_settings,
        legible_cells=LEGIBLE_CELLS,
        data=chart_data(facts, rows) | {"csv": comma_separated(facts)},
    )


def _maps(facts: Facts) -> list[tuple[Candidates, list[Landscape]]]:
    all_maps = []
    for candidates in facts.board.candidates:
        maps = [
            laid_out for condition in overview.reading_order(facts) if (laid_out := landscape(candidates, condition))
        ]
        if maps:
            all_maps.append((candidates, maps))
    return all_maps


def _command(facts: Facts, result: Result) -> str:
    return f"sersearch rerun {shlex.quote(str(facts.run.path))} {result.trial.key}"


def _commit(result: Result) -> str:
    return result.environment.get("commit", "not recorded")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _confusion(row: Row) -> list[list[float]]:
    """Rows of the confusion matrix in per cent of the true emotion."""
    assert row.test
    counts = np.array(row.test.confusion, np.float64)
    share = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
    rows: list[list[float]] = share.round(1).tolist()
    return rows


def _shades(found: Landscape) -> list[list[Shade | None]]:
    values = [cell for row in found.ua for cell in row if cell is not None]
    low, span = min(values), max(max(values) - min(values), 1e-9)
    return [[None if cell is None else _shade((cell - low) / span, f"{cell:.1f}") for cell in row] for row in found.ua]


def _shade(share: float, text: str) -> Shade:
    red, green, blue, _ = colormaps["cividis"](share, bytes=True)
    return Shade(text, f"#{red:02x}{green:02x}{blue:02x}", "#fff" if share < 0.55 else "#000")
