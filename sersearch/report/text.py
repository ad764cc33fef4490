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
    rows = [facts.values(entry) for entry in facts.entries]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(facts: Facts) -> str:
    """Everything, for machines."""
    return json.dumps(facts.record(), indent=1, ensure_ascii=False)


def parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    """Flat lines as Parquet; a line that lacks another's column is null there."""
    found = list(rows)
    columns = dict.fromkeys(name for row in found for name in row)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row.get(name) for row in found] for name in columns}), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def trial_lines(facts: Facts) -> Iterable[dict[str, Any]]:
    """Every trial of each space that has a result: configuration, figures of its best epoch, environment."""
    for space, results in facts.board.results.items():
        for result in results:
            best = result.epochs[result.best]
            yield {
                "key": result.trial.key,
                "space": space,
                "seed": result.trial.seed,
                "held_out": result.trial.held_out or None,
                **result.trial.configuration.canonical(),
                "parameters": result.parameters,
                "best_epoch": best.epoch,
                "trained_epochs": len(result.epochs),
                "stopped": result.stopped,
                "validation_loss": best.validation_loss,
                "validation_ua_noisy": best.ua_noisy,
                "validation_ua_clean": best.ua_clean,
                "seconds": sum(epoch.seconds for epoch in result.epochs),
                **result.environment,
            }


def _markdown(facts: Facts, sheets: Iterable[Sheet]) -> str:
    head = [f"**{facts.unfinished}**"] if facts.unfinished else []
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
