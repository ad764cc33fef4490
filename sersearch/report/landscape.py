"""Validation UA over a space's kernel sizes, as the rows and columns of a map."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sersearch.evaluation.leaderboard import Candidates, select_winner
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration

Size = tuple[int, ...]


@dataclass(frozen=True)
class Landscape:
    """The candidates' validation UA under one condition, laid out over h and w.

    The sizes that the space varies span it: the heights (h1, h2) go down and the widths (w1, w2) across; where but
    one of the two kinds varies, the first layer's go down and the second layer's across; a single size goes across.
    Of several configurations with the same kernels the best is shown.

    Attributes:
        candidates: the configurations.
        condition: of the UA.
        rows: names of the sizes that go down, as ("h1", "h2").
        columns: of those that go across.
        row_sizes: the sizes of each row.
        column_sizes: the sizes of each column.
        ua: [rows, columns] in per cent; None where nothing was tried.
        best: row and column of the winner, of several folds the one that most of them chose.
    """

    candidates: Candidates
    condition: Condition
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_sizes: tuple[Size, ...]
    column_sizes: tuple[Size, ...]
    ua: tuple[tuple[float | None, ...], ...]
    best: tuple[int, int]


def landscape(candidates: Candidates, condition: Condition) -> Landscape | None:
    """Lay candidates out; None where its kernels don't vary."""
    if condition not in candidates.conditions:
        return None
    rows, columns = _axes(candidates)
    if not rows and not columns:
        return None
    cells: dict[tuple[Size, Size], list[float]] = defaultdict(list)
    for configuration in candidates.results:
        at = _sizes(configuration, rows), _sizes(configuration, columns)
        cells[at].append(candidates.ua(configuration, condition))
    row_sizes = tuple(sorted({row for row, _ in cells}))
    column_sizes = tuple(sorted({column for _, column in cells}))
    ua = tuple(tuple(max(cells[r, c]) if (r, c) in cells else None for c in column_sizes) for r in row_sizes)
    winner = select_winner(candidates, condition).configuration
    best = row_sizes.index(_sizes(winner, rows)), column_sizes.index(_sizes(winner, columns))
    return Landscape(candidates, condition, rows, columns, row_sizes, column_sizes, ua, best)


def _axes(candidates: Candidates) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [n for n in ("h1", "h2", "w1", "w2") if len({getattr(c, n, None) for c in candidates.results}) > 1]
    heights = tuple(name for name in names if name.startswith("h"))
    widths = tuple(name for name in names if name.startswith("w"))
    if heights and widths:
        return heights, widths
    if len(names) == 1:
        return (), (names[0],)
    return tuple(name for name in names if name.endswith("1")), tuple(name for name in names if name.endswith("2"))


def _sizes(configuration: Configuration, names: tuple[str, ...]) -> Size:
    return tuple(getattr(configuration, name) for name in names)
