"""All that a report says of a run, as plain data; the formats only lay it out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sersearch.evaluation.leaderboard import Baseline, Group, Leaderboard, Row
from sersearch.evaluation.probe.findings import Findings, read_findings
from sersearch.report.comparison import Pair, Ranking, Robustness, rank, robustness
from sersearch.report.evidence import Evidence, Predictions
from sersearch.run.run import Run
from sersearch.statistics.corrections import Selection, select_best
from sersearch.statistics.curves import median_filter
from sersearch.study.configuration import Configuration, fields
from sersearch.study.paper import SWEEP
from sersearch.study.study import CONDITIONS, Condition

MEDIAN_WINDOW = 5
SHORTEST_SWEEP = 3


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard with its evidence.

    Attributes:
        row: the winner.
        selection: its validation UA, and how much of that is the luck of having been the best.
        test: what its test shows; None while the search is not complete.
        opened: when the test partition was opened for it, one time a seed.
    """

    row: Row
    selection: Selection
    test: Evidence | None
    opened: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """Validation UA in per cent along a sweep under one condition, and the test UA of its winner."""

    ua: tuple[float, ...]
    filtered: tuple[float, ...]
    peak_h1: int
    test_ua: float | None


@dataclass(frozen=True)
class Sweep:
    """A space in which the height of the first kernel alone varies, as Figure 2's.

    Attributes:
        group: the configurations.
        h1: the heights, ascending.
        curves: by condition.
        is_papers: whether it is Figure 2's own sweep.
    """

    group: Group
    h1: tuple[int, ...]
    curves: dict[Condition, Curve]
    is_papers: bool


@dataclass(frozen=True)
class Heard:
    """A cell of Table 3 with its evidence.

    Attributes:
        baseline: the SVM.
        test: what its test shows; None while the search is not complete.
        tie: a letter shared with the sets of its protocol that it can't be told from, empty while not complete.
    """

    baseline: Baseline
    test: Evidence | None
    tie: str


@dataclass(frozen=True)
class Facts:
    """A run as its report shows it.

    Attributes:
        run: which one.
        board: its leaderboard.
        entries: the leaderboard's rows with their evidence, in the same order.
        rankings: by condition; none while the search is not complete.
        robustness: one entry for each kind of features; likewise.
        sweeps: the spaces that vary h1 alone.
        baselines: the SVMs by set of functionals and protocol.
    """

    run: Run
    board: Leaderboard
    entries: tuple[Entry, ...]
    rankings: dict[Condition, Ranking]
    robustness: tuple[Robustness, ...]
    sweeps: tuple[Sweep, ...]
    baselines: tuple[Heard, ...]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those that the store has."""
        present = {entry.row.condition for entry in self.entries}
        return tuple(condition for condition in CONDITIONS if condition in present)

    @property
    def unfinished(self) -> str | None:
        """What every page of an unfinished run says; None where it is complete."""
        if self.board.complete:
            return None
        return (
            f"Unfinished: {self.board.done} of {self.board.total} trials are done. "
            "The test partition stays sealed until all are."
        )

    def ranked(self, condition: Condition) -> list[Entry]:
        """A condition's entries, best first: by test UA, or by validation UA while the test is sealed."""
        found = [entry for entry in self.entries if entry.row.condition == condition]
        return sorted(found, key=lambda e: -(e.test.overall.ua if e.test else e.row.validation_ua))

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(entry): number for number, entry in enumerate(self.entries)}

    @cached_property
    def probed(self) -> tuple[Findings, ...]:
        """What `sersearch probe` found of these winners, by condition; nothing while the run is not complete."""
        return read_findings(self.run, self.board.rows) if self.board.complete else ()

    def standing(self, entry: Entry) -> tuple[int, str, Pair | None] | None:
        """Place from 1, letter shared with those it can't be told from, and the test against the next row."""
        ranking = self.rankings.get(entry.row.condition)
        if ranking is None:
            return None
        place = ranking.order.index(self._numbers[id(entry)])
        following = ranking.neighbours[place] if place < len(ranking.neighbours) else None
        return place + 1, ranking.ties[place], following

    def values(self, entry: Entry) -> dict[str, Any]:
        """An entry's figures as one flat line; the same results give the same line, wherever and whenever."""
        row, selection, test = entry.row, entry.selection, entry.test
        interval = test.overall.interval if test else None
        place, tie, following = self.standing(entry) or (None, None, None)
        return {
            "space": row.group.space,
            "model": row.group.model,
            "features": row.features,
            "condition": row.condition,
            **{name: getattr(row.configuration, name, None) for name in ("h1", "w1", "h2", "w2")},
            "parameters": row.parameters,
            "seeds": len(row.results),
            "candidates": len(row.group.candidates),
            "validation_ua": _rounded(row.validation_ua),
            "validation_corrected_ua": _rounded(selection.corrected_ua),
            "test_ua": _rounded(test.overall.ua if test else None),
            "test_low": _rounded(interval.low if interval else None),
            "test_high": _rounded(interval.high if interval else None),
            "paper_ua": row.paper_ua,
            "unlike_paper": worded(row.departures) if row.paper_ua is not None else None,
            "place": place,
            "tie": tie,
            "next_difference": _rounded(following.comparison.difference if following else None),
            "next_p": _rounded(following.adjusted_p if following else None),
            "key": row.key,
        }

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        run, board = self.run, self.board
        return {
            "run": run.path.name,
            "study": run.study.name,
            "complete": board.complete,
            "done": board.done,
            "total": board.total,
            "failed": board.failed,
            "pruned": board.pruned,
            "fingerprint": run.fingerprint,
            "partition": run.partition.model_dump(mode="json"),
            "emotions": list(run.store.emotions),
            "rows": [self.values(entry) | self._details(entry) for entry in self.entries],
            "comparisons": {condition: asdict(ranking) for condition, ranking in self.rankings.items()},
            "robustness": [asdict(each) | {"verdict": each.verdict} for each in self.robustness],
            "baselines": [_baseline_record(heard) for heard in self.baselines],
            "sweeps": [
                {"space": sweep.group.space, "h1": sweep.h1, "is_papers": sweep.is_papers}
                | {condition: asdict(curve) for condition, curve in sweep.curves.items()}
                for sweep in self.sweeps
            ],
        }

    def _details(self, entry: Entry) -> dict[str, Any]:
        return {
            "configuration": entry.row.configuration.canonical(),
            "keys": [result.trial.key for result in entry.row.results],
            "environments": [result.environment for result in entry.row.results],
            "opened": list(entry.opened),
            "test": asdict(entry.test) if entry.test else None,
        }


def gather(run: Run, board: Leaderboard, generator: np.random.Generator) -> Facts:
    """Work out what a run shows.

    Args:
        run: an opened run.
        board: its leaderboard.
        generator: of the tests' random flips and shuffles; with the same seed the report is the same.
    """
    predictions = {
        number: Predictions.read(row.predictions, run.store.emotions)
        for number, row in enumerate(board.rows)
        if row.predictions
    }
    opened = _openings(run)
    entries = tuple(
        Entry(
            row,
            select_best(row.group.counts(row.condition)),
            predictions[number].evidence() if number in predictions else None,
            tuple(opened[result.trial.key, row.condition] for result in row.results) if row.predictions else (),
        )
        for number, row in enumerate(board.rows)
    )
    rankings = {
        condition: rank({number: predictions[number].counts() for number in numbers}, generator)
        for condition in CONDITIONS
        if (numbers := [n for n in predictions if board.rows[n].condition == condition])
    }
    return Facts(
        run,
        board,
        entries,
        rankings,
        tuple(_robustness(board.rows, predictions, generator)),
        tuple(_sweeps(board.groups, entries)),
        tuple(_baselines(board.baselines, run.store.emotions, generator)),
    )


def _baselines(
    baselines: Sequence[Baseline], emotions: tuple[str, ...], generator: np.random.Generator
) -> Iterable[Heard]:
    read = {
        n: Predictions.read(each.predictions, emotions, seeds=1) for n, each in enumerate(baselines) if each.predictions
    }
    ties: dict[int, str] = {}
    for protocol in dict.fromkeys(each.protocol for each in baselines):
        alike = {n: read[n].counts() for n in read if baselines[n].protocol == protocol}
        if alike:
            ranking = rank(alike, generator)
            ties.update(zip(ranking.order, ranking.ties, strict=True))
    for n, each in enumerate(baselines):
        yield Heard(each, read[n].evidence() if n in read else None, ties.get(n, ""))


def _baseline_record(heard: Heard) -> dict[str, Any]:
    each = heard.baseline
    return {
        "space": each.space,
        "features": each.features,
        "protocol": each.protocol,
        "candidates": each.candidates,
        "validation_ua": _rounded(each.validation_ua),
        "paper_ua": each.paper_ua,
        "tie": heard.tie or None,
        "winners": [
            {"key": w.trial.key, "held_out": w.trial.held_out or None, **w.trial.configuration.canonical()}
            for w in each.winners
        ],
        "test": asdict(heard.test) if heard.test else None,
    }


def _robustness(
    rows: Sequence[Row], predictions: Mapping[int, Predictions], generator: np.random.Generator
) -> Iterable[Robustness]:
    """Of several spaces of one model the paper's speaks for it (Section 7.4: not the sweep), else the best."""
    best: dict[tuple[str, str], int] = {}
    for number in predictions:
        row = rows[number]
        if row.condition == "noisy":
            kind = (row.group.features, row.group.model)
            if kind not in best or _speaks(row) > _speaks(rows[best[kind]]):
                best[kind] = number
    for features in dict.fromkeys(rows[number].group.features for number in best.values()):
        numbers = [number for number in best.values() if rows[number].group.features == features]
        models = [(rows[n].group.space, rows[n].group.model, predictions[n]) for n in numbers]
        yield robustness(features, models, generator)


def _speaks(row: Row) -> tuple[bool, float]:
    return row.group.is_papers, row.validation_ua


def _sweeps(groups: Iterable[Group], entries: Sequence[Entry]) -> Iterable[Sweep]:
    for group in groups:
        if len(group.candidates) < SHORTEST_SWEEP or varying(group) != ["h1"]:
            continue
        ordered = sorted((c for c in group.candidates if isinstance(c, Configuration)), key=lambda c: c.h1 or 0)
        h1 = tuple(c.h1 for c in ordered if c.h1 is not None)
        curves: dict[Condition, Curve] = {}
        for entry in entries:
            if entry.row.group is group:
                ua = [group.ua(c, entry.row.condition) for c in ordered]
                filtered = median_filter(ua, MEDIAN_WINDOW).tolist()
                peak = entry.row.configuration
                assert isinstance(peak, Configuration)
                assert peak.h1
                test_ua = entry.test.overall.ua if entry.test else None
                curves[entry.row.condition] = Curve(tuple(ua), tuple(filtered), peak.h1, test_ua)
        papers = h1 == tuple(SWEEP) and (group.model, group.features, ordered[0].h2) == ("S-CLDNN", "log-mels", 3)
        yield Sweep(group, h1, curves, papers)


def varying(group: Group) -> list[str]:
    """Names of the parameters in which a group's configurations differ."""
    return [name for name in fields(group.model) if len({getattr(c, name) for c in group.candidates}) > 1]


def worded(settings: Mapping[str, Any]) -> str:
    """Settings as a sentence has them.

    Example:
        >>> worded({"epochs": 20, "dense": [64, 32]})
        'epochs = 20, dense = [64, 32]'
    """
    return ", ".join(f"{name} = {_plain(value)}" for name, value in settings.items())


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _openings(run: Run) -> dict[tuple[str, str], str]:
    file = run.path / "test" / "openings.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    openings = [opening for line in lines if (opening := json.loads(line)).get("by") != "probe"]
    return {(opening["key"], opening["condition"]): opening["opened"] for opening in openings}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
