"""Two runs side by side: two corpora, two seeds, two versions of the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sersearch.report.comparison import format_p
from sersearch.report.evidence import Predictions
from sersearch.report.facts import Entry, Facts
from sersearch.report.sheets import NONE, Sheet, bounds, estimate, percent
from sersearch.statistics import Comparison, holm, paired_difference

Kind = tuple[str, str, str, str]
"""Model, features, space and condition."""


@dataclass(frozen=True)
class Versus:
    """The winners of two runs of one kind.

    Attributes:
        kind: model, features, space and condition.
        a: the first run's; None where it has none.
        b: the second run's.
        comparison: a minus b on the same test utterances; None where these differ or one is not tested.
        adjusted_p: after Holm's correction for all comparisons of the two runs.
    """

    kind: Kind
    a: Entry | None
    b: Entry | None
    comparison: Comparison | None = None
    adjusted_p: float | None = None


def compare(a: Facts, b: Facts, generator: np.random.Generator) -> list[Versus]:
    """Match the rows of two runs, and test their differences where both were tested on the same utterances.

    Args:
        a: the first run.
        b: the second run.
        generator: of the tests' random flips, drawn from beyond 20 speakers.
    """
    of_a, of_b = _by_kind(a), _by_kind(b)
    kinds = list(of_a) + [kind for kind in of_b if kind not in of_a]
    found = {kind: _test(a, b, of_a.get(kind), of_b.get(kind), generator) for kind in kinds}
    tested = {kind: comparison for kind, comparison in found.items() if comparison}
    adjusted = dict(zip(tested, holm([c.p_value for c in tested.values()]).tolist(), strict=True))
    return [Versus(kind, of_a.get(kind), of_b.get(kind), found[kind], adjusted.get(kind)) for kind in kinds]


def same_test(a: Facts, b: Facts) -> bool:
    """Whether two runs test on the same utterances, as often: the same store, test speakers and number of seeds."""
    return (
        a.run.fingerprint == b.run.fingerprint
        and set(a.run.partition.test) == set(b.run.partition.test)
        and a.run.study.seeds == b.run.study.seeds
    )


def side_by_side(a: Facts, b: Facts, rows: list[Versus]) -> Sheet:
    """The comparison as a table."""
    names = [str(facts.run.path) for facts in (a, b)]
    notes = [
        "Differences are tested over speakers, Holm-corrected for all rows."
        if same_test(a, b)
        else "The runs test on other utterances, or with other numbers of seeds, so their differences can't be paired."
    ]
    notes += [f"{name} is {facts.unfinished}" for name, facts in zip(names, (a, b), strict=True) if facts.unfinished]
    return Sheet(
        "versus",
        f"{names[0]} against {names[1]}",
        ("model", "space", "condition", *(f"test UA (%), {name}" for name in names), "difference", "p"),
        tuple(_cells(row) for row in rows),
        tuple(notes),
    )


def versus_facts(a: Facts, b: Facts, rows: list[Versus]) -> dict[str, Any]:
    """The comparison as plain JSON."""
    return {
        "a": str(a.run.path),
        "b": str(b.run.path),
        "same_test": same_test(a, b),
        "rows": [
            {
                **dict(zip(("model", "features", "space", "condition"), row.kind, strict=True)),
                "a": a.values(row.a) if row.a else None,
                "b": b.values(row.b) if row.b else None,
                "difference": _difference(row),
                "p": row.adjusted_p,
                "smallest_p": row.comparison.smallest_p if row.comparison else None,
            }
            for row in rows
        ],
    }


def _by_kind(facts: Facts) -> Mapping[Kind, Entry]:
    return {
        (group.model, group.features, group.space, entry.row.condition): entry
        for entry in facts.entries
        for group in [entry.row.group]
    }


def _test(
    a: Facts, b: Facts, of_a: Entry | None, of_b: Entry | None, generator: np.random.Generator
) -> Comparison | None:
    if not (of_a and of_b and of_a.test and of_b.test and same_test(a, b)):
        return None
    emotions = a.run.store.emotions
    counts = [Predictions.read(entry.row.predictions, emotions).counts() for entry in (of_a, of_b)]
    return paired_difference(counts[0], counts[1], generator)


def _difference(row: Versus) -> float | None:
    if not (row.a and row.b and row.a.test and row.b.test):
        return None
    return row.a.test.overall.ua - row.b.test.overall.ua


def _cells(row: Versus) -> tuple[str, ...]:
    model, features, space, condition = row.kind
    difference = _difference(row)
    interval = row.comparison.interval if row.comparison else None
    return (
        f"{model} ({features})",
        space,
        condition,
        *(_figure(entry) for entry in (row.a, row.b)),
        NONE if difference is None else f"{round(difference, 2) + 0.0:+.2f} {bounds(interval)}".rstrip(),
        NONE if row.adjusted_p is None else format_p(row.adjusted_p),
    )


def _figure(entry: Entry | None) -> str:
    if entry is None:
        return NONE
    return estimate(entry.test.overall) if entry.test else f"validation {percent(entry.row.validation_ua)}"
