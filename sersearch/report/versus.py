"""Several runs together: two side by side, and one leaderboard over any number.

Runs differ in corpus, seed or version of the code. What is tested on other utterances is never ranked together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sersearch.evaluation.test_partition import read_predictions
from sersearch.report.captions import chance_note, ranking_notes
from sersearch.report.cells import NONE, Sheet, above, bounds, estimate, percent, settings
from sersearch.report.comparison import Ranking, format_p, rank
from sersearch.report.evidence import Predictions
from sersearch.report.facts import Facts, Row, Standing, ranking_record, units_of
from sersearch.report.sheets import ranks
from sersearch.statistics.corrections import holm
from sersearch.statistics.counts import Counts
from sersearch.statistics.tests import Comparison, paired_difference
from sersearch.study.conditions import CONDITIONS, Condition

Kind = tuple[str, str, str, Condition]
"""Model, features, space and condition."""


OTHER_TESTS = "The runs test on other utterances, or with other numbers of seeds, so their differences can't be paired."


@dataclass(frozen=True)
class Match:
    """The rows of two runs for one model, features, space and condition.

    Attributes:
        kind: model, features, space and condition.
        a: the first run's row; None where it has none.
        b: the second run's row; None where it has none.
        comparison: a minus b on the same test utterances; None where these differ or one is not tested.
        adjusted_p: after Holm's correction for all comparisons of the two runs.
    """

    kind: Kind
    a: Row | None
    b: Row | None
    comparison: Comparison | None = None
    adjusted_p: float | None = None


def compare(a: Facts, b: Facts, generator: np.random.Generator) -> list[Match]:
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
    return [Match(kind, of_a.get(kind), of_b.get(kind), found[kind], adjusted.get(kind)) for kind in kinds]


def same_test(a: Facts, b: Facts) -> bool:
    """Whether two runs test on the same utterances, as often: the same store, test speakers and number of seeds."""
    return _test_part(a) == _test_part(b)


def side_by_side(a: Facts, b: Facts, rows: list[Match]) -> Sheet:
    """The comparison as a table."""
    names = _names((a, b))
    notes = [_tested_over(rows) if same_test(a, b) else OTHER_TESTS]
    notes += [f"The runs differ in {words}."] if (words := _differ(a, b)) else []
    notes += _unfinished((a, b))
    return Sheet(
        "versus",
        f"{names[0]} against {names[1]}",
        ("model", "space", "condition", *(f"test UA (%), {name}" for name in names), "difference", "p"),
        tuple(_cells(row) for row in rows),
        tuple(notes),
    )


def _tested_over(rows: Sequence[Match]) -> str:
    kinds = {units_of(match.a.winner).kind for match in rows if match.a and match.comparison}
    return f"Differences are tested over {' or '.join(sorted(kinds)) or 'speaker'}s, Holm-corrected for all rows."


def versus_facts(a: Facts, b: Facts, rows: list[Match]) -> dict[str, Any]:
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
class MergedRow:
    """A winner over several runs: the same trials with the same figures are one row, wherever they won.

    Attributes:
        wins: the rows, each with its run; those of complete runs first.
    """

    wins: tuple[tuple[Facts, Row], ...]

    @property
    def row(self) -> Row:
        """What all runs say of the winner: all but its space and the luck of having been its best."""
        return self.wins[0][1]

    @property
    def runs(self) -> list[str]:
        """Where it won, each run once."""
        return list(dict.fromkeys(_names([facts for facts, _ in self.wins])))

    @property
    def spaces(self) -> list[str]:
        """The spaces that it is the best of."""
        return list(dict.fromkeys(row.winner.candidates.space for _, row in self.wins))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its trials."""
        return tuple(result.trial.key for result in self.row.winner.results)

    def counts(self) -> Counts:
        """Test confusions [S, E, E], in which each utterance counts once per seed of the study."""
        facts, row = self.wins[0]
        return _counts(facts, row)


def _counts(facts: Facts, row: Row) -> Counts:
    winner = row.winner
    predictions = Predictions.read(read_predictions(facts.run, winner), facts.run.store.emotions, winner.seeds)
    return predictions.counts() * (facts.run.study.seeds // winner.seeds)


@dataclass(frozen=True)
class Board:
    """One leaderboard over the runs that test on the same utterances.

    Attributes:
        condition: of all rows.
        runs: the runs.
        rows: best test UA first, then those that are not tested, best validation UA first.
        ranking: ranking of the rows that are tested, in the order of the rows; None if no row is tested.
    """

    condition: Condition
    runs: tuple[Facts, ...]
    rows: tuple[MergedRow, ...]
    ranking: Ranking | None

    def standing(self, number: int) -> Standing | None:
        """A row's place, letter and the test against the next one; None where it is not tested."""
        if self.ranking is None or number >= len(self.ranking.order):
            return None
        neighbours = self.ranking.neighbours
        following = neighbours[number] if number < len(neighbours) else None
        return Standing(number + 1, self.ranking.letters[number], self.ranking.ranks[number], following)


def merge(runs: Sequence[Facts], generator: np.random.Generator) -> list[Board]:
    """One leaderboard per condition for all runs that test on the same utterances; Holm corrects for all its rows.

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
    wins: dict[Hashable, list[tuple[Facts, Row]]] = defaultdict(list)
    for facts in sorted(runs, key=lambda facts: not facts.board.complete):
        for row in facts.ranked(condition):
            wins[_trained(row)].append((facts, row))
    rows = sorted((MergedRow(tuple(of_one)) for of_one in wins.values()), key=lambda merged: _best_first(merged.row))
    counts = {number: merged.counts() for number, merged in enumerate(rows) if merged.row.test}
    ranking = rank(counts, units_of(rows[0].row.winner), generator) if counts else None
    return Board(condition, tuple(runs), tuple(rows), ranking)


def merged(boards: Sequence[Board]) -> list[Sheet]:
    """The leaderboards as tables."""
    return [_merged(board, sum(other.condition == board.condition for other in boards) > 1) for board in boards]


def _merged(board: Board, others: bool) -> Sheet:
    first_keys = Counter(merged.keys[0] for merged in board.rows)
    twice = sorted(key for key, count in first_keys.items() if count > 1)
    notes = ranking_notes(board.ranking) if board.ranking else []
    if others:
        notes.append(f"{OTHER_TESTS} There is a table for each test: places and letters hold within one.")
    if twice:
        notes.append(f"Trained more than once, with other figures (code, versions or processor): {', '.join(twice)}.")
    return Sheet(
        f"merged-{board.condition}",
        f"Leaderboard, {board.condition} condition: {', '.join(_names(board.runs))}",
        (
            "",
            "ranks",
            "run",
            "model",
            "space",
            "test UA (%)",
            "against the next",
            "validation UA (%)",
            "configuration",
            "key",
        ),
        tuple(_merged_cells(board, number) for number in range(len(board.rows))),
        (*notes, chance_note(len(board.runs[0].run.store.emotions)), *_unfinished(board.runs)),
    )


def merged_facts(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """The leaderboards as plain JSON; comparisons name rows by their number from 0."""
    return [
        {
            "condition": board.condition,
            "runs": _names(board.runs),
            "unfinished": _unfinished(board.runs),
            "rows": [_values(board, number) for number in range(len(board.rows))],
            "comparisons": ranking_record(board.ranking) if board.ranking else None,
        }
        for board in boards
    ]


def _merged_cells(board: Board, number: int) -> tuple[str, ...]:
    merged, standing = board.rows[number], board.standing(number)
    row = merged.row
    return (
        f"{standing.place} {standing.tie}" if standing else "",
        ranks(standing),
        ", ".join(merged.runs),
        row.winner.title,
        ", ".join(merged.spaces),
        estimate(row.test.overall) if row.test else NONE,
        above(standing.following if standing else None),
        percent(row.winner.validation_ua),
        ", ".join(settings(row.winner.candidates, row.winner.configuration)) or NONE,
        row.winner.key,
    )


def _values(board: Board, number: int) -> dict[str, Any]:
    merged, standing = board.rows[number], board.standing(number)
    following = standing.following if standing else None
    facts, row = merged.wins[0]
    common = facts.values(row)
    for of_one_win in ("space", "candidates", "validation_corrected_ua"):
        del common[of_one_win]
    return {
        "runs": merged.runs,
        "spaces": merged.spaces,
        **common,
        "place": standing.place if standing else None,
        "tie": standing.tie if standing else None,
        "best_rank": standing.ranks[0] if standing else None,
        "worst_rank": standing.ranks[1] if standing else None,
        "next_difference": round(following.comparison.difference, 4) if following else None,
        "next_p": round(following.adjusted_p, 4) if following else None,
        "keys": merged.keys,
    }


def _trained(row: Row) -> Hashable:
    """A winner's trials and their figures: another version of the code may give a key others."""
    return tuple(
        (
            result.trial.key,
            repr(result.confusion),
            *((epoch.train_loss, epoch.validation_loss, epoch.ua_clean) for epoch in result.epochs),
        )
        for result in row.winner.results
    )


def _best_first(row: Row) -> tuple[bool, float, str]:
    ua = row.test.overall.ua if row.test else row.winner.validation_ua
    return row.test is None, -ua, row.winner.key


def _test_part(facts: Facts) -> Hashable:
    return facts.run.identity.fingerprint, frozenset(fold.test for fold in facts.run.folds), facts.run.study.seeds


def _names(runs: Sequence[Facts]) -> list[str]:
    return [str(facts.run.path) for facts in runs]


def _unfinished(runs: Sequence[Facts]) -> list[str]:
    return [f"{facts.run.path}: {facts.state}" for facts in runs if facts.state]


def _differ(a: Facts, b: Facts) -> str:
    """What two runs don't share of data, settings and versions."""
    of_a, of_b = _traits(a), _traits(b)
    names = [name for name in dict.fromkeys([*of_a, *of_b]) if of_a.get(name) != of_b.get(name)]
    return ", ".join(f"{name} ({of_a.get(name, NONE)} and {of_b.get(name, NONE)})" for name in names)


def _traits(facts: Facts) -> dict[str, str]:
    run, study = facts.run, facts.run.study
    environments = [result.environment for row in facts.rows for result in row.winner.results]
    return {
        "corpus": run.store.recipe.corpus,
        "store": run.identity.fingerprint,
        "test speakers": "; ".join(" ".join(fold.test) for fold in run.folds),
        "seeds": str(study.seeds),
        **{name: str(value) for name, value in study.settings.items()},
        **{
            name: " or ".join(sorted({each[name] for each in environments if name in each}))
            for name in dict.fromkeys(name for each in environments for name in each)
        },
    }


def _by_kind(facts: Facts) -> Mapping[Kind, Row]:
    rows: dict[Kind, Row] = {}
    for row in facts.rows:
        candidates = row.winner.candidates
        rows[candidates.model, candidates.features, candidates.space, row.winner.condition] = row
    return rows


def _test(a: Facts, b: Facts, of_a: Row | None, of_b: Row | None, generator: np.random.Generator) -> Comparison | None:
    if not (of_a and of_b and of_a.test and of_b.test and same_test(a, b)):
        return None
    units = units_of(of_a.winner)
    return paired_difference(units.add_up(_counts(a, of_a)), units.add_up(_counts(b, of_b)), generator)


def _difference(match: Match) -> float | None:
    if not (match.a and match.b and match.a.test and match.b.test):
        return None
    return match.a.test.overall.ua - match.b.test.overall.ua


def _cells(match: Match) -> tuple[str, ...]:
    model, features, space, condition = match.kind
    difference = _difference(match)
    interval = match.comparison.interval if match.comparison else None
    return (
        f"{model} ({features})",
        space,
        condition,
        *(_figure(row) for row in (match.a, match.b)),
        NONE if difference is None else f"{round(difference, 2) + 0.0:+.2f} {bounds(interval)}".rstrip(),
        NONE if match.adjusted_p is None else format_p(match.adjusted_p),
    )


def _figure(row: Row | None) -> str:
    if row is None:
        return NONE
    return estimate(row.test.overall) if row.test else f"validation {percent(row.winner.validation_ua)}"
