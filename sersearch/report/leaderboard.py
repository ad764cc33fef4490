"""The leaderboard in its formats; all of them say when a search is not complete."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from sersearch import durable
from sersearch.leaderboard import Leaderboard, Row

FIELDS = (
    "space", "model", "features", "condition", "h1", "w1", "h2", "w2", "parameters", "candidates",
    "validation_ua", "test_ua", "paper_ua", "key",
)  # fmt: skip


def row_facts(row: Row) -> dict[str, Any]:
    """A row as plain values; UA in per cent, rounded to 4 decimals."""
    c = row.configuration
    return {
        "space": row.space,
        "model": c.model,
        "features": c.features,
        "condition": row.condition,
        "h1": c.h1,
        "w1": c.w1,
        "h2": c.h2,
        "w2": c.w2,
        "parameters": row.results[0].parameters,
        "candidates": row.candidates,
        "validation_ua": round(row.validation_ua, 4),
        "test_ua": None if row.test_ua is None else round(row.test_ua, 4),
        "paper_ua": row.paper_ua,
        "key": row.results[0].trial.key,
    }


def leaderboard_facts(board: Leaderboard) -> dict[str, Any]:
    """The leaderboard as plain JSON."""
    return {
        "complete": board.complete,
        "done": board.done,
        "total": board.total,
        "rows": [row_facts(row) for row in board.rows],
    }


def comma_separated(board: Leaderboard) -> str:
    """The leaderboard as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_facts(row) for row in board.rows)
    return text.getvalue()


def markdown(board: Leaderboard) -> str:
    """The leaderboard as Markdown: test UA as Table 4 has it, with where it comes from."""
    state = f"{board.done} of {board.total} trials are done"
    head = "" if board.complete else f"**Unfinished: {state}. The test partition stays sealed until all are.**\n\n"
    paper = any(row.paper_ua is not None for row in board.rows)
    columns = [
        "model (features)",
        "space",
        "condition",
        "test UA (%)",
        "validation UA (%)",
        "best of",
        "h1 x w1",
        "h2 x w2",
        "parameters",
    ]
    if paper:
        columns.insert(4, "paper (%)")
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row in board.rows:
        c = row.configuration
        kernels = [f"{h} x {w}" for h, w in c.kernels] or ["", ""]
        cells = [
            f"{c.model} ({c.features})",
            row.space,
            row.condition,
            _percent(row.test_ua),
            f"{row.validation_ua:.2f}",
            str(row.candidates),
            *kernels,
            f"{row.results[0].parameters:,}",
        ]
        if paper:
            cells.insert(4, _percent(row.paper_ua))
        lines.append(_line(cells))
    note = "\nThe paper's figures are eNTERFACE'05's: another corpus is not to be held against them.\n" if paper else ""
    return head + "\n".join(lines) + "\n" + note


def write_report(folder: Path, board: Leaderboard) -> Path:
    """Write all formats into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(folder / "leaderboard.md", markdown(board).encode())
    durable.write(folder / "leaderboard.csv", comma_separated(board).encode())
    durable.write(folder / "leaderboard.json", json.dumps(leaderboard_facts(board), indent=1).encode())
    return folder


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
