"""What a run shows in one sentence, and what it is a report of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sersearch.evaluation.leaderboard import Candidates
from sersearch.report.captions import chance_note
from sersearch.report.cells import NONE, Sheet, bounds, estimate, percent
from sersearch.report.facts import Facts, Row
from sersearch.study.conditions import Condition

BEST_ON: dict[Condition, str] = {"clean": "on clean speech", "noisy": "on clean and noisy speech together"}


@dataclass(frozen=True)
class Entry:
    """A model of one space, with its winner per condition.

    Attributes:
        candidates: what its winners are the best of.
        rows: the leaderboard's row of each condition under which it is ranked.
    """

    candidates: Candidates
    rows: Mapping[Condition, Row]

    @property
    def features(self) -> str:
        """The features of its winners; of several sets of vectors, those of each condition."""
        return ", ".join(dict.fromkeys(row.winner.features for row in self.rows.values()))


def several_spaces(shown: Sequence[Entry]) -> bool:
    """Whether entries of several spaces have the same model and features, so that only the space tells them apart."""
    return len({(entry.candidates.model, entry.features) for entry in shown}) < len(shown)


def reading_order(facts: Facts) -> list[Condition]:
    """The conditions as a reader expects them: clean speech first."""
    return sorted(facts.conditions)


def entries(facts: Facts) -> list[Entry]:
    """One entry per model and space, the best of the first condition first; those that lack it come last."""
    grouped: dict[int, dict[Condition, Row]] = {}
    for condition in reading_order(facts):
        for row in facts.ranked(condition):
            grouped.setdefault(id(row.winner.candidates), {})[condition] = row
    return [Entry(next(iter(rows.values())).winner.candidates, rows) for rows in grouped.values()]


def one_row_per_model(facts: Facts) -> list[Sheet]:
    """One row per model with both conditions beside each other; nothing before the test or with one condition."""
    conditions, shown = reading_order(facts), entries(facts)
    if len(conditions) < 2 or not facts.board.tested or not shown:
        return []
    with_space = several_spaces(shown)
    cells = []
    for entry in shown:
        rows = [entry.rows.get(condition) for condition in conditions]
        alone = next((row.test.noisy_alone for row in rows if row and row.test and row.test.noisy_alone), None)
        model = f"{entry.candidates.model} ({entry.features})"
        tested = [_tested(facts, row) for row in rows]
        space = [entry.candidates.space] if with_space else []
        cells.append((model, *space, *tested, estimate(alone) if alone else NONE))
    heads = [f"{condition}, UA (%)" for condition in conditions]
    columns = ("model", *(["space"] if with_space else []), *heads, "noisy copies alone, UA (%)")
    notes = (
        "Test UA with its 95 % interval over speakers. Models of a column that share a letter do not differ "
        "significantly. A model's winners may be two configurations.",
        chance_note(len(facts.run.store.emotions)),
    )
    return [Sheet("models", "Models side by side", columns, tuple(cells), notes)]


def _tested(facts: Facts, row: Row | None) -> str:
    """A row's figure, and the letters that it shares."""
    if row is None or row.test is None:
        return NONE
    standing = facts.standing(row)
    return " ".join([estimate(row.test.overall), *([standing.tie] if standing else [])])


def headline(facts: Facts) -> str:
    """The result in one sentence: the best model per condition, how sure that is, and what guessing is worth."""
    parts = [_best(facts, condition) for condition in reading_order(facts)]
    if not parts:
        return "No configuration has all its seeds and folds yet."
    emotions = len(facts.run.store.emotions)
    return f"Best {'; best '.join(parts)}. Guessing gives {100 / emotions:.2f} %."


def _best(facts: Facts, condition: Condition) -> str:
    """The best row of a condition, and which others it can't be told from."""
    row = facts.ranked(condition)[0]
    title = f"{BEST_ON[condition]}, {row.winner.title}"
    standing = facts.standing(row)
    if row.test is None or standing is None:
        return f"{title}, validation UA {percent(row.winner.validation_ua)} %"
    letters = set(standing.tie)
    others = [facts.standing(other) for other in facts.ranked(condition) if other is not row]
    tied = sum(bool(letters & set(other.tie)) for other in others if other)
    figure = f"test UA {percent(row.test.overall.ua)} % {bounds(row.test.overall.interval)}".rstrip()
    if not tied:
        return f"{title}, {figure}"
    return f"{title}, {figure}, not significantly better than {tied} other row{'s' if tied > 1 else ''}"


def about(facts: Facts) -> str:
    """What this is a report of, in one sentence."""
    store, folds = facts.run.store, facts.run.folds
    testers = sum(len(fold.test) for fold in folds)
    tested = (
        f"{testers} test speakers" if len(folds) == 1 else f"{testers} speakers, each tested once by {len(folds)} folds"
    )
    return (
        f"Speech emotion recognition on {store.recipe.corpus}: {len(store.emotions)} emotions "
        f"({', '.join(store.emotions)}), {store.recipe.copies} copies per utterance, {tested}."
    )


def last_finished(facts: Facts) -> str:
    """When the last trial of the leaderboard's candidates was finished, as date and time in UTC; empty before that."""
    times = (result.finished for candidates in facts.board.candidates for result in candidates.trials())
    last = max(times, default="")
    return last[:16].replace("T", " ")
