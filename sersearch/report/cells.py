"""A table of the report, and how its cells are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sersearch.digests import short_digest
from sersearch.evaluation.leaderboard import Candidates
from sersearch.report.captions import CHANCE
from sersearch.report.comparison import format_p
from sersearch.report.evidence import Slice
from sersearch.report.facts import Facts, Row, format_settings, varying
from sersearch.statistics.families import Pair
from sersearch.statistics.intervals import Interval
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.network import KERNELS

NONE = "–"

# Of an interval that was sampled, the ends are given.
MOST_LISTED = 8


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: what `file_name` makes the name of a file or an anchor.
        title: a line above it.
        columns: headings.
        rows: as many cells each.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def file_name(name: str) -> str:
    """Make a name of any characters the name of a file or an anchor; different names stay different.

    Example:
        >>> file_name("sweep-h1"), file_name("sweep-../h 1")
        ('sweep-h1', 'sweep-..-h-1-5c9af200beac04f4')
    """
    safe = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:100]
    return safe if safe == name else f"{safe}-{short_digest(name)}"


def settings(candidates: Candidates, configuration: Configuration) -> list[str]:
    """What tells a configuration from others of its space: its kernels, and whatever else varies."""
    left_out = ("features", *KERNELS, *configuration.meaningless)
    values = configuration.record()
    others = {name: values[name] for name in varying(candidates) if name not in left_out}
    parts = [kernels([size]) for size in configuration.kernels]
    return [*parts, format_settings(others)] if others else parts


def beside_paper(row: Row) -> str:
    """The paper's figure, starred where the training is not the paper's."""
    star = "*" if row.departures else ""
    return percent(row.paper_ua) + star


def place_of(facts: Facts, row: Row) -> str:
    """A row's place and letters; empty while it is not tested."""
    standing = facts.standing(row)
    return f"{standing.place} {standing.tie}" if standing else ""


def against_next(facts: Facts, row: Row) -> str:
    """How far a row is above the next, and the p value of that."""
    standing = facts.standing(row)
    return above(standing.following if standing else None)


def above(following: Pair | None) -> str:
    """How far the first of a pair is above the second, and the p value of that."""
    if following is None:
        return NONE
    # Adding zero makes no difference of minus nothing.
    difference = round(following.comparison.difference, 2) + 0.0
    return f"{difference:+.2f}, p: {format_p(following.adjusted_p)}"


def estimate(found: Slice) -> str:
    """UA and its interval, marked where it can't be told from chance."""
    mark = f" {CHANCE}" if found.at_chance else ""
    return f"{found.ua:.2f} {bounds(found.interval)}".rstrip() + mark


def bounds(interval: Interval | None) -> str:
    """An interval in brackets, nothing where there is none."""
    return f"[{interval.low:.1f}, {interval.high:.1f}]" if interval else ""


def percent(value: float | None) -> str:
    """A figure with two decimals."""
    return NONE if value is None else f"{value:.2f}"


def kernels(sizes: Sequence[tuple[int, int]]) -> str:
    """Both layers' kernels, height x width."""
    return ", ".join(f"{h}×{w}" for h, w in sizes)


def ranges(candidates: Candidates, name: str) -> str:
    """The values of a parameter that were tried, in Table 2's notation."""
    records = [configuration.record() for configuration in candidates.results]
    values = sorted({value for record in records if (value := _hashable(record.get(name))) is not None})
    if not values:
        return NONE
    return "M" if (candidates.model, name) == ("FST-CLDNN", "h1") else notation(values)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def notation(values: Sequence[Any]) -> str:
    """Values, sorted, in Table 2's notation."""
    low, high = values[0], values[-1]
    if isinstance(low, int) and low < high and list(values) == list(range(low, high + 1)):
        return f"{low}:{high}"
    if isinstance(low, float) and len(values) > MOST_LISTED:
        return f"{low:g} to {high:g}"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
