"""The report as Markdown, CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.errors import printable
from sersearch.report.cells import Sheet
from sersearch.report.facts import Facts, fold_records
from sersearch.report.modules import module_sheets
from sersearch.report.overview import one_row_per_model
from sersearch.report.sheets import evidence, leaderboards


def summary(facts: Facts) -> str:
    """The leaderboards alone, as Markdown."""
    return _markdown(facts, leaderboards(facts))


def markdown(facts: Facts) -> str:
    """All tables as Markdown."""
    title = f"# {escape_markdown(facts.run.study.name)}\n\n"
    sheets = [*one_row_per_model(facts), *leaderboards(facts), *evidence(facts), *module_sheets(facts)]
    return title + _markdown(facts, sheets)


def comma_separated(facts: Facts) -> str:
    """The leaderboard as CSV; UA in per cent, rounded to 4 decimals."""
    return _csv([facts.values(row) for row in facts.rows])


def _csv(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = [{name: csv_cell(value) for name, value in row.items()} for row in figures]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def folds(facts: Facts) -> str:
    """Each fold and seed of each row as CSV; UA in per cent, rounded to 4 decimals."""
    return _csv(fold_rows(facts))


def fold_rows(facts: Facts) -> list[dict[str, Any]]:
    """One record per fold and seed of each row of the leaderboard and of Table 3."""
    # An SVM may be a row of the leaderboard and one of Table 3.
    of_both = {(row.winner.key, row.winner.condition) for row in facts.rows}
    others = [row for row in facts.baselines if (row.winner.key, row.winner.condition) not in of_both]
    return [
        {"model": row.winner.candidates.model, "features": row.winner.features, "space": row.winner.candidates.space}
        | {"condition": row.winner.condition, "protocol": row.winner.candidates.protocol}
        | record
        for row in (*facts.rows, *others)
        for record in fold_records(row)
    ]


def as_json(facts: Facts) -> str:
    """Everything, for machines."""
    return json.dumps(facts.record(), indent=1, ensure_ascii=False)


def parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    """Flat records as Parquet; a record that lacks another's column is null there."""
    sink = pa.BufferOutputStream()
    pq.write_table(arrow_table(rows), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def arrow_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Flat records as an Arrow table; a record that lacks another's column is null there."""
    records = list(rows)
    columns = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: _column([record.get(name) for record in records]) for name in columns})


def _column(values: list[Any]) -> pa.Array:
    """A column; values of several kinds, such as epochs as a number and as "2000 steps", become text."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([None if value is None else str(value) for value in values])


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
                "host": result.host or None,
                **result.environment,
            }


def _markdown(facts: Facts, sheets: Iterable[Sheet]) -> str:
    head = [f"**{_paragraph(facts.state)}**"] if facts.state else []
    return "\n\n".join([*head, *(table(sheet) for sheet in sheets)]) + "\n"


def table(sheet: Sheet) -> str:
    """One table as Markdown."""
    lines = [f"## {escape_markdown(sheet.title)}", "", _line(sheet.columns), f"|{' --- |' * len(sheet.columns)}"]
    lines += [_line(row) for row in sheet.rows]
    for note in sheet.notes:
        lines += ["", _paragraph(note)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _paragraph(text: str) -> str:
    """Escape a paragraph, except for what stands as code between two backticks."""
    parts = re.split("(`[^`]+`)", text)
    return "".join(printable(part) if number % 2 else escape_markdown(part) for number, part in enumerate(parts))


# Each pattern is what Markdown (CommonMark, and GitHub's tables) would not show as it stands. A single star in a text
# and an underscore inside a word are no emphasis.
_MARKDOWN = re.compile(
    r"""
      \\(?=[!-/:-@\[-`{-~]|$)       # a backslash that would escape what follows
    | [|`~]                         # cells, code, deletions
    | \*(?=.*\*) | (?<=\*)(?<!^.)\*
    | (?<!\w)_ | _(?!\w)            # emphasis
    | \](?=[(\[:])                  # links and their definitions
    | <(?=[a-zA-Z/!?])              # HTML and addresses
    | &(?=\#?\w+;)                  # entities
    | ^[\#+>-](?=\s|$) | ^[=-]+$      # headings, lists, quotations, rules
    | (?<=^\d)[.)](?=\s|$) | (?<=^\d\d)[.)](?=\s|$)   # numbered lists
    | (?<=\s)\#+$                   # the end of a heading
    """,
    re.VERBOSE,
)


def escape_markdown(text: str) -> str:
    r"""Escape a text so that Markdown shows it as it stands, on one line.

    Example:
        >>> print(escape_markdown("a|b `c` <d> log_mels [41.0, 43.5] 50.1*"))
        a\|b \`c\` \<d> log_mels [41.0, 43.5] 50.1*
    """
    return _MARKDOWN.sub(lambda found: "".join("\\" + character for character in found[0]), printable(text))


# What makes a spreadsheet take a cell for a formula, in the narrow and the wide form of the characters.
_FORMULA = re.compile("[=+\\-@＝＋－＠]")


def csv_cell(value: Any) -> Any:
    """A value as a cell of CSV: numbers stay numbers, and no spreadsheet takes a text for a formula.

    Example:
        >>> csv_cell("=1+2"), csv_cell(-1.5), csv_cell("st-cldnn")
        ("'=1+2", -1.5, 'st-cldnn')
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) else text
