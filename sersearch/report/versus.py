"""Several runs together: two side by side, and one leaderboard over any number.

Runs differ in corpus, seed or version of the code. What is tested on other utterances is never ranked together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sersearch.report.comparison import Pair, Ranking, format_p, rank
from sersearch.report.evidence import Predictions
from sersearch.report.facts import Entry, Facts
from sersearch.report.sheets import NONE, Sheet, above, bounds, estimate, name, percent, ranking_note, settings
from sersearch.statistics.corrections import holm
from sersearch.statistics.counts import Counts
from sersearch.statistics.tests import Comparison, paired_difference
from sersearch.study.study import CONDITIONS, Condition

Kind = tuple[str, str, str, str]
"""Model, features, space and condition."""


OTHER_TESTS = "The runs test on other utterances, or with other numbers of seeds, so their differences can't be paired."


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
    return _test_part(a) == _test_part(b)


def side_by_side(a: Facts, b: Facts, rows: list[Versus]) -> Sheet:
    """The comparison as a table."""
    names = _names((a, b))
    notes = ["Differences are tested over speakers, Holm-corrected for all rows." if same_test(a, b) else OTHER_TESTS]
    notes += [f"The runs differ in {words}."] if (words := _differ(a, b)) else []
    notes += _unfinished((a, b))
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


@dataclass(frozen=True)
class Line:
    """A winner over several runs: the same trials with the same figures are one line, wherever they won.

    Attributes:
        wins: the entries, each with its run; those of runs that are complete first.
    """

    wins: tuple[tuple[Facts, Entry], ...]

    @property
    def entry(self) -> Entry:
        """What all of them say of the winner: all but its space and the luck of having been its best."""
        return self.wins[0][1]

    @property
    def runs(self) -> list[str]:
        """Where it won, each run once."""
        return list(dict.fromkeys(_names([facts for facts, _ in self.wins])))

    @property
    def spaces(self) -> list[str]:
        """What it is the best of."""
        return list(dict.fromkeys(entry.row.group.space for _, entry in self.wins))

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its trials, one a seed."""
        return tuple(result.trial.key for result in self.entry.row.results)

    def counts(self) -> Counts:
        """Test confusions [S, E, E], seeds added up."""
        facts, entry = self.wins[0]
        return Predictions.read(entry.row.predictions, facts.run.store.emotions).counts()


@dataclass(frozen=True)
class Board:
    """One leaderboard over the runs that test on the same utterances.

    Attributes:
        condition: of all rows.
        runs: the runs.
        lines: best test UA first, then those that are not tested, best validation UA first.
        ranking: of the lines that are tested, which are numbered as they stand; None where there are none.
    """

    condition: Condition
    runs: tuple[Facts, ...]
    lines: tuple[Line, ...]
    ranking: Ranking | None

    def standing(self, number: int) -> tuple[int, str, Pair | None] | None:
        """Place from 1, letter shared with those it can't be told from, and the test against the next line."""
        if self.ranking is None or number >= len(self.ranking.order):
            return None
        neighbours = self.ranking.neighbours
        return number + 1, self.ranking.ties[number], neighbours[number] if number < len(neighbours) else None


def merge(runs: Sequence[Facts], generator: np.random.Generator) -> list[Board]:
    """One leaderboard a condition for all runs that test on the same utterances; Holm corrects for all its rows.

    Args:
        runs: one or more.
        generator: of the tests' random flips, drawn from beyond 20 speakers.
    """
    groups: dict[Hashable, list[Facts]] = defaultdict(list)
    for facts in runs:
        groups[_test_part(facts)].append(facts)
    return [
        _board(condition, group, generator)
        for condition in CONDITIONS
        for group in groups.values()
        if any(condition in facts.conditions for facts in group)
    ]


def _board(condition: Condition, runs: Sequence[Facts], generator: np.random.Generator) -> Board:
    wins: dict[Hashable, list[tuple[Facts, Entry]]] = defaultdict(list)
    for facts in sorted(runs, key=lambda facts: not facts.board.complete):
        for entry in facts.ranked(condition):
            wins[_trained(entry)].append((facts, entry))
    lines = sorted((Line(tuple(of)) for of in wins.values()), key=lambda line: _best_first(line.entry))
    counts = {number: line.counts() for number, line in enumerate(lines) if line.entry.test}
    return Board(condition, tuple(runs), tuple(lines), rank(counts, generator) if counts else None)


def merged(boards: Sequence[Board]) -> list[Sheet]:
    """The leaderboards as tables."""
    return [_merged(board, sum(other.condition == board.condition for other in boards) > 1) for board in boards]


def _merged(board: Board, others: bool) -> Sheet:
    keys = [line.keys for line in board.lines]
    twice = sorted({first for first, *_ in keys if sum(first == other for other, *_ in keys) > 1})
    notes = [ranking_note(board.ranking)] if board.ranking else []
    if others:
        notes.append(f"{OTHER_TESTS} There is a table for each test: places and letters hold within one.")
    if twice:
        notes.append(f"Trained more than once, with other figures (code, versions or processor): {', '.join(twice)}.")
    return Sheet(
        f"merged-{board.condition}",
        f"Leaderboard, {board.condition} condition: {', '.join(_names(board.runs))}",
        ("", "run", "model", "space", "test UA (%)", "against the next", "validation UA (%)", "configuration", "key"),
        tuple(_line(board, number) for number in range(len(board.lines))),
        (*notes, *_unfinished(board.runs)),
    )


def merged_facts(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """The leaderboards as plain JSON; comparisons name rows by their number from 0."""
    return [
        {
            "condition": board.condition,
            "runs": _names(board.runs),
            "unfinished": _unfinished(board.runs),
            "rows": [_values(board, number) for number in range(len(board.lines))],
            "comparisons": asdict(board.ranking) if board.ranking else None,
        }
        for board in boards
    ]


def _line(board: Board, number: int) -> tuple[str, ...]:
    line, standing = board.lines[number], board.standing(number)
    entry = line.entry
    place, tie, following = standing or ("", "", None)
    return (
        f"{place} {tie}".strip(),
        ", ".join(line.runs),
        name(entry),
        ", ".join(line.spaces),
        estimate(entry.test.overall) if entry.test else NONE,
        above(following),
        percent(entry.row.validation_ua),
        ", ".join(settings(entry.row.group, entry.row.configuration)) or NONE,
        entry.row.key,
    )


def _values(board: Board, number: int) -> dict[str, Any]:
    line = board.lines[number]
    place, tie, following = board.standing(number) or (None, None, None)
    facts, entry = line.wins[0]
    common = facts.values(entry)
    for of_one_win in ("space", "candidates", "validation_corrected_ua"):
        del common[of_one_win]
    return {
        "runs": line.runs,
        "spaces": line.spaces,
        **common,
        "place": place,
        "tie": tie,
        "next_difference": round(following.comparison.difference, 4) if following else None,
        "next_p": round(following.adjusted_p, 4) if following else None,
        "keys": line.keys,
    }


def _trained(entry: Entry) -> Hashable:
    """A winner's trials and the figures of their epochs: another version of the code may give a key others."""
    return tuple(
        (result.trial.key, *((epoch.train_loss, epoch.validation_loss, epoch.ua_clean) for epoch in result.epochs))
        for result in entry.row.results
    )


def _best_first(entry: Entry) -> tuple[bool, float, str]:
    ua = entry.test.overall.ua if entry.test else entry.row.validation_ua
    return entry.test is None, -ua, entry.row.key


def _test_part(facts: Facts) -> Hashable:
    return facts.run.fingerprint, frozenset(facts.run.partition.test), facts.run.study.seeds


def _names(runs: Sequence[Facts]) -> list[str]:
    return [str(facts.run.path) for facts in runs]


def _unfinished(runs: Sequence[Facts]) -> list[str]:
    return [f"{facts.run.path} is {facts.unfinished}" for facts in runs if facts.unfinished]


def _differ(a: Facts, b: Facts) -> str:
    """What two runs don't share of data, settings and versions."""
    of_a, of_b = _traits(a), _traits(b)
    names = [name for name in dict.fromkeys([*of_a, *of_b]) if of_a.get(name) != of_b.get(name)]
    return ", ".join(f"{name} ({of_a.get(name, NONE)} and {of_b.get(name, NONE)})" for name in names)


def _traits(facts: Facts) -> dict[str, str]:
    run, study = facts.run, facts.run.study
    made = [result.environment for entry in facts.entries for result in entry.row.results]
    return {
        "corpus": run.store.recipe.corpus,
        "store": run.fingerprint,
        "test speakers": " ".join(run.partition.test),
        "seeds": str(study.seeds),
        **{name: str(value) for name, value in study.settings.items()},
        **{
            name: " or ".join(sorted({each[name] for each in made if name in each}))
            for name in dict.fromkeys(name for each in made for name in each)
        },
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
