"""The report as one HTML page that opens from disk: no network, no other file, nothing to install."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps

from sersearch.errors import printable
from sersearch.evaluation.leaderboard import Candidates
from sersearch.report import cells, sheets
from sersearch.report.facts import Facts, Row, Sweep, format_settings, varying
from sersearch.report.landscape import Landscape, landscape
from sersearch.report.modules import module_data, module_sheets
from sersearch.report.paper import PEAK_H1, PEAK_TEST_UA
from sersearch.run.ledger import Epoch, Result

# Beyond so many cells a map shows colours alone; its figures show where the pointer is.
LEGIBLE_CELLS = 400


@dataclass(frozen=True)
class Shade:
    """One coloured cell: what it says, its colour, and a colour to write on it."""

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
    rows = [row for condition in facts.conditions for row in facts.ranked(condition)]
    return environment.get_template("page.html").render(
        facts=facts,
        rows=rows,
        leaderboards=sheets.leaderboards(facts),
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
        data=_data(facts, rows),
    )


def _maps(facts: Facts) -> list[tuple[Candidates, list[Landscape]]]:
    all_maps = []
    for candidates in facts.board.candidates:
        maps = [laid_out for condition in facts.conditions if (laid_out := landscape(candidates, condition))]
        if maps:
            all_maps.append((candidates, maps))
    return all_maps


def _command(facts: Facts, result: Result) -> str:
    return f"sersearch rerun {shlex.quote(str(facts.run.path))} {result.trial.key}"


def _commit(result: Result) -> str:
    return result.environment.get("commit", "not recorded")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _confusion(row: Row) -> list[list[Shade]]:
    """Rows of the confusion matrix in per cent of the true emotion."""
    assert row.test
    counts = np.array(row.test.confusion, np.float64)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return [[_shade(value, f"{100 * value:.0f}") for value in values] for values in share.tolist()]


def _shades(found: Landscape) -> list[list[Shade | None]]:
    values = [cell for row in found.ua for cell in row if cell is not None]
    low, span = min(values), max(max(values) - min(values), 1e-9)
    return [[None if cell is None else _shade((cell - low) / span, f"{cell:.1f}") for cell in row] for row in found.ua]


def _shade(share: float, text: str) -> Shade:
    red, green, blue, _ = colormaps["cividis"](share, bytes=True)
    return Shade(text, f"#{red:02x}{green:02x}{blue:02x}", "#fff" if share < 0.55 else "#000")


def _data(facts: Facts, rows: Iterable[Row]) -> dict[str, Any]:
    """What the page's script draws: as short as 10,000 trials need it."""
    return {
        "conditions": list(facts.conditions),
        "groups": [_group(facts, candidates) for candidates in facts.board.candidates],
        "modules": module_data(facts),
        "rows": [[_curves(result.epochs) for result in row.winner.results] for row in rows],
        "sweeps": [_sweep(sweep) for sweep in facts.sweeps],
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "title": _title(sweep.candidates),
        "h1": sweep.h1,
        "curves": {
            condition: {
                "ua": _short(curve.ua),
                "filtered": _short(curve.filtered),
                "peak": curve.peak_h1,
                "test": cells.percent(curve.test_ua),
                "paper": [PEAK_H1, cells.percent(PEAK_TEST_UA[condition])] if sweep.is_papers else None,
            }
            for condition, curve in sweep.curves.items()
        },
    }


def _title(candidates: Candidates) -> str:
    return f"{candidates.title}, {candidates.space}"


def _group(facts: Facts, candidates: Candidates) -> dict[str, Any]:
    names = varying(candidates)
    winners = {
        row.winner.condition: row.winner.configuration for row in facts.rows if row.winner.candidates is candidates
    }
    trials = []
    for configuration, by_fold in candidates.results.items():
        record = configuration.record()
        won = [number for number, condition in enumerate(facts.conditions) if winners.get(condition) == configuration]
        for result in (result for results in by_fold for result in results):
            ua = [
                round(result.ua(condition), 2) if condition in result.conditions else None
                for condition in facts.conditions
            ]
            losses = _short(epoch.validation_loss for epoch in result.epochs)
            trials.append([[record[name] for name in names], ua, losses, result.parameters, won])
    return {"title": _title(candidates), "names": names, "trials": trials}


def _curves(epochs: Iterable[Epoch]) -> dict[str, list[float]]:
    names = ("train_loss", "validation_loss", "ua_noisy", "ua_clean")
    found = list(epochs)
    return {name: _short(getattr(epoch, name) for epoch in found) for name in names}


def _short(values: Iterable[float | None]) -> list[float]:
    return [round(value, 3) for value in values if value is not None]
