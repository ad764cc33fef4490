"""The report as Markdown, CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.report.facts import Facts
from sersearch.report.modules import module_sheets
from sersearch.report.sheets import Sheet, evidence, leaderboards


def summary(facts: Facts) -> str:
    """The leaderboards alone, as Markdown."""
    return _markdown(facts, leaderboards(facts))


def markdown(facts: Facts) -> str:
    """All tables as Markdown."""
    title = f"# {facts.run.study.name}\n\n"
    return title + _markdown(facts, [*leaderboards(facts), *evidence(facts), *module_sheets(facts)])


def comma_separated(facts: Facts) -> str:
    """The leaderboard as CSV; UA in per cent, rounded to 4 decimals."""
    rows = [facts.values(row) for row in facts.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(facts: Facts) -> str:
    """Everything, for machines."""
    return json.dumps(facts.record(), indent=1, ensure_ascii=False)


def parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    """Flat records as Parquet; a record that lacks another's column is null there."""
    found = list(rows)
    columns = dict.fromkeys(name for row in found for name in row)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row.get(name) for row in found] for name in columns}), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def trial_records(facts: Facts) -> Iterable[dict[str, Any]]:
    """Every trial of each space that has a result: configuration, figures of the trained model, environment."""
    for space, trials in facts.board.trials.items():
        for trial, result in trials:
            best = result.best_epoch
            yield {
                "key": result.trial.key,
                "space": space,
                "seed": trial.seed,
                "fold": trial.fold.name or None,
                **trial.configuration.record(),
                "parameters": result.parameters,
                "best_epoch": best.epoch if best else None,
                "trained_epochs": len(result.epochs) or None,
                "stopped": result.stopped,
                "validation_loss": best.validation_loss if best else None,
                **{f"validation_ua_{condition}": result.ua(condition) for condition in result.conditions},
                "seconds": result.seconds,
                **result.environment,
            }


def _markdown(facts: Facts, sheets: Iterable[Sheet]) -> str:
    head = [f"**{facts.state}**"] if facts.state else []
    return "\n\n".join([*head, *(table(sheet) for sheet in sheets)]) + "\n"


def table(sheet: Sheet) -> str:
    """One table as Markdown."""
    lines = [f"## {sheet.title}", "", _line(sheet.columns), _line(["---"] * len(sheet.columns))]
    lines += [_line(row) for row in sheet.rows]
    for note in sheet.notes:
        lines += ["", note]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
