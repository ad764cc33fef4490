"""All that a report says of a run, as plain data; the formats only lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import lcm
from typing import Any

import numpy as np

from sersearch.digests import digest
from sersearch.evaluation.counts import count_test_predictions, learnt_noises
from sersearch.evaluation.exposure import Exposure, read_exposure
from sersearch.evaluation.leaderboard import Candidates, Leaderboard, Winner
from sersearch.evaluation.probe.findings import Findings, read_findings
from sersearch.evaluation.probe.inquiry import precedence
from sersearch.evaluation.test_partition import opened_at, read_predictions
from sersearch.report.comparison import Ranking, Robustness, rank, robustness
from sersearch.report.evidence import Evidence, Predictions
from sersearch.report.paper import TABLE_3, TABLE_4
from sersearch.report.units import Units
from sersearch.run.run import Run
from sersearch.run.split import check_split
from sersearch.statistics.corrections import Selection, select_best
from sersearch.statistics.counts import Counts, mean_recall
from sersearch.statistics.curves import median_filter
from sersearch.statistics.families import Pair
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.network import KERNELS
from sersearch.study.fold import Fold
from sersearch.study.hypothesis import Hypothesis
from sersearch.study.paper import SWEEP, is_papers_corpus

MEDIAN_WINDOW = 5

SVM_SETTINGS = ("kernel", "C")
"""What tells one SVM from another, whether or not a study varies it."""

SHORTEST_SWEEP = 3


@dataclass(frozen=True)
class Row:
    """A row of the leaderboard: a winner with its evidence.

    Attributes:
        winner: the best of some candidates.
        selection: its validation UA, and how much of that is the luck of having been the best; None where several folds
            choose for themselves.
        test: what its test shows; None while it is not tested.
        opened: when the test speakers were opened for each of its trials, in UTC; empty while it is not tested.
        test_uas: test UA in per cent of each of its trials, in the order of `Winner.results`; empty while it is not
            tested.
        tried_before: configurations of its kind in the ledger that the study does not name any more; the luck of having
            been the best counts them.
    """

    winner: Winner
    selection: Selection | None
    test: Evidence | None
    opened: tuple[str, ...]
    test_uas: tuple[float, ...] = ()
    tried_before: int = 0

    @property
    def tried(self) -> int:
        """How many configurations it is the best of, those that the study named once included."""
        return max(self.winner.candidates.tried) + self.tried_before

    @property
    def corrected_ua(self) -> float | None:
        """Validation UA less the luck of having been the best."""
        return self.selection.corrected_ua if self.selection else None

    @property
    def paper_ua(self) -> float | None:
        """Table 4's figure in per cent where the space is the paper's; another corpus' figure all the same."""
        candidates = self.winner.candidates
        if not candidates.is_papers:
            return None
        return TABLE_4.get((candidates.model, candidates.features), {}).get(self.winner.condition)

    @property
    def table_3_ua(self) -> float | None:
        """Table 3's figure in per cent for the winner's set of functionals and protocol."""
        _, figures = TABLE_3.get(self.winner.features, ("", {}))
        return figures.get(self.winner.candidates.protocol)

    @property
    def departures(self) -> dict[str, Any]:
        """Settings in which the winner is not trained as the paper's model whose figure stands beside it."""
        return self.winner.configuration.departures if self.paper_ua is not None else {}


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
        candidates: the configurations.
        h1: the heights, ascending.
        curves: by condition.
        is_papers: whether it is Figure 2's own sweep.
    """

    candidates: Candidates
    h1: tuple[int, ...]
    curves: dict[Condition, Curve]
    is_papers: bool


@dataclass(frozen=True)
class Facts:
    """A run as its report shows it.

    Attributes:
        run: which one.
        board: its leaderboard.
        rows: the leaderboard's winners with their evidence, in the same order.
        rankings: by condition; empty while the winners are not tested.
        robustness: one for each kind of features; empty while the winners are not tested.
        sweeps: the spaces that vary h1 alone.
        baselines: the best of each set of vectors under each protocol.
        baseline_ties: for each baseline a letter shared with those of its protocol that can't be distinguished from it;
            empty while it is not tested.
        exposure: what was seen of the test speakers, in this run and others.
    """

    run: Run
    board: Leaderboard
    rows: tuple[Row, ...]
    rankings: dict[Condition, Ranking]
    robustness: tuple[Robustness, ...]
    sweeps: tuple[Sweep, ...]
    baselines: tuple[Row, ...]
    baseline_ties: tuple[str, ...]
    exposure: Exposure

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that the store has."""
        present = {row.winner.condition for row in self.rows}
        return tuple(condition for condition in CONDITIONS if condition in present)

    @cached_property
    def settings_columns(self) -> tuple[str, ...]:
        """The settings that a table of all rows needs: the kernels' sizes, and whatever varies in any space."""
        names = dict.fromkeys(KERNELS)
        for candidates in self.board.candidates:
            names |= dict.fromkeys(varying(candidates))
            names |= dict.fromkeys(name for name in SVM_SETTINGS if candidates.model == "SVM")
        return tuple(name for name in names if name not in ("model", "features"))

    @property
    def of_papers_corpus(self) -> bool:
        """Whether corpus and emotions are the paper's, so that its figures may stand beside these."""
        recipe = self.run.store.recipe
        return is_papers_corpus(recipe.corpus, recipe.emotions)

    @cached_property
    def split(self) -> tuple[str, ...]:
        """What the study's split has in two parts, in words."""
        return check_split(self.run.store, self.run.folds)

    @property
    def unfinished(self) -> str | None:
        """What every page of an unfinished or untested run says; None where all is done."""
        if not self.board.complete:
            return (
                f"Unfinished: {self.board.done} of {self.board.total} trials are done. "
                "The test speakers stay sealed until all are."
            )
        if not self.board.tested:
            return f"Not tested: `sersearch report {self.run.path}` opens the test speakers for the winners."
        return None

    @property
    def state(self) -> str | None:
        """What every page and figure says at its head; None where all is done and nothing was changed since."""
        return " ".join(filter(None, (self.unfinished, self.exposure.exploratory))) or None

    def ranked(self, condition: Condition) -> list[Row]:
        """A condition's rows, best first: by test UA, or by validation UA while the test speakers are sealed."""
        rows = [row for row in self.rows if row.winner.condition == condition]
        return sorted(rows, key=lambda row: -(row.test.overall.ua if row.test else row.winner.validation_ua))

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(row): number for number, row in enumerate(self.rows)}

    @cached_property
    def probed(self) -> tuple[Findings, ...]:
        """What `sersearch probe` found of these winners, by condition; empty while the run is not complete."""
        return read_findings(self.run, self.board.winners) if self.board.complete else ()

    def standing(self, row: Row) -> Standing | None:
        """A row's place in its condition; None while it is not tested."""
        ranking = self.rankings.get(row.winner.condition)
        if ranking is None or row.test is None:
            return None
        place = ranking.order.index(self._numbers[id(row)])
        following = ranking.neighbours[place] if place < len(ranking.neighbours) else None
        return Standing(place + 1, ranking.letters[place], ranking.ranks[place], following)

    def values(self, row: Row) -> dict[str, Any]:
        """A row's figures as one flat record; the same results give the same record, wherever and whenever."""
        winner, test = row.winner, row.test
        interval = test.overall.interval if test else None
        standing = self.standing(row)
        following = standing.following if standing else None
        settings = winner.configuration.record()
        return {
            "corpus": self.run.store.recipe.corpus,
            "space": winner.candidates.space,
            "model": winner.candidates.model,
            "features": winner.features,
            "condition": winner.condition,
            **{name: _cell(settings.get(name)) for name in self.settings_columns},
            "parameters": winner.parameters,
            "seeds": winner.seeds,
            "candidates": row.tried,
            "validation_ua": _rounded(winner.validation_ua),
            "validation_corrected_ua": _rounded(row.corrected_ua),
            "test_ua": _rounded(test.overall.ua if test else None),
            "test_low": _rounded(interval.low if interval else None),
            "test_high": _rounded(interval.high if interval else None),
            "recipe_low": _rounded(test.recipe.low if test and test.recipe else None),
            "recipe_high": _rounded(test.recipe.high if test and test.recipe else None),
            "test_noisy_alone_ua": _rounded(test.noisy_alone.ua if test and test.noisy_alone else None),
            "test_macro_f1": _rounded(test.macro_f1 if test else None),
            "test_wa": _rounded(test.wa if test else None),
            "chance": _rounded(100 / len(self.run.store.emotions)),
            "paper_ua": row.paper_ua,
            "unlike_paper": format_settings(row.departures) if row.paper_ua is not None else None,
            "place": standing.place if standing else None,
            "tie": standing.tie if standing else None,
            "best_rank": standing.ranks[0] if standing else None,
            "worst_rank": standing.ranks[1] if standing else None,
            "next_difference": _rounded(following.comparison.difference if following else None),
            "next_p": _rounded(following.adjusted_p if following else None),
            "key": winner.key,
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
            "exploratory": self.exposure.exploratory is not None,
            "openings": asdict(self.exposure),
            "fingerprint": run.identity.fingerprint,
            "ledger": digest(board.figures),
            **_folds_record(run.folds),
            "split": list(self.split),
            "emotions": list(run.store.emotions),
            "rows": [self.values(row) | self._details(row) for row in self.rows],
            "comparisons": {condition: ranking_record(ranking) for condition, ranking in self.rankings.items()},
            "robustness": [asdict(each) | {"verdict": each.verdict} for each in self.robustness],
            "baselines": [
                _baseline_record(row, tie) for row, tie in zip(self.baselines, self.baseline_ties, strict=True)
            ],
            "sweeps": [
                {"space": sweep.candidates.space, "h1": sweep.h1, "is_papers": sweep.is_papers}
                | {condition: asdict(curve) for condition, curve in sweep.curves.items()}
                for sweep in self.sweeps
            ],
        }

    def _details(self, row: Row) -> dict[str, Any]:
        results = row.winner.results
        return {
            "configuration": row.winner.configuration.record(),
            "keys": [result.trial.key for result in results],
            "environments": [result.environment for result in results],
            "hosts": [result.host for result in results],
            "opened": list(row.opened),
            "test": asdict(row.test) if row.test else None,
            "folds": list(fold_records(row)),
        }


def fold_records(row: Row) -> Iterable[dict[str, Any]]:
    """One flat record per fold and seed of a row: who tests, what was chosen, and its figures."""
    winner = row.winner
    for number, (result, fold) in enumerate(winner.trials):
        best = result.best_epoch
        yield {
            "fold": fold.name or None,
            "seed": result.trial.seed,
            "test_speakers": " ".join(fold.test),
            "key": result.trial.key,
            "configuration": ", ".join(
                f"{name} = {_plain(value)}"
                for name, value in result.trial.configuration.record().items()
                if name in varying(winner.candidates)
            ),
            "stopped": result.stopped,
            "best_epoch": best.epoch if best else None,
            "trained_epochs": len(result.epochs) or None,
            "validation_ua": _rounded(result.ua(winner.condition)),
            "test_ua": _rounded(row.test_uas[number]) if row.test_uas else None,
        }


@dataclass(frozen=True)
class Standing:
    """Where a row stands in the leaderboard of its condition.

    Attributes:
        place: from 1.
        tie: letters; it shares one with exactly those rows that do not differ significantly from it.
        ranks: the best and the worst place that it can have.
        following: the test against the next row; None for the last.
    """

    place: int
    tie: str
    ranks: tuple[int, int]
    following: Pair | None


def ranking_record(ranking: Ranking) -> dict[str, Any]:
    """A ranking as plain JSON; letters and ranks are in its order."""
    return asdict(ranking) | {"letters": ranking.letters, "ranks": ranking.ranks}


def gather(run: Run, board: Leaderboard, generator: np.random.Generator) -> Facts:
    """Work out what a run shows.

    Args:
        run: an opened run.
        board: its leaderboard.
        generator: of the tests' random flips and shuffles; with the same seed the report is the same.
    """
    predictions = {
        number: _predictions(run, winner) for number, winner in enumerate(board.winners) if winner.predictions
    }
    rows = tuple(_ranked_row(run, board, winner, predictions.get(n)) for n, winner in enumerate(board.winners))
    rankings = {}
    for condition in CONDITIONS:
        tested = {n: predictions[n] for n in predictions if board.winners[n].condition == condition}
        if tested:
            rankings[condition] = rank(_comparable(tested), units_of(board.winners[min(tested)]), generator)
    study = run.study
    hypothesis = study.hypothesis.resolve(study.models) if study.hypothesis else None
    robust = tuple(_robustness(board.winners, predictions, hypothesis, generator))
    baselines, ties = _baselines(run, board.baselines, generator)
    return Facts(
        run=run,
        board=board,
        rows=rows,
        rankings=rankings,
        robustness=robust,
        sweeps=tuple(_sweeps(board.candidates, rows)),
        baselines=baselines,
        baseline_ties=ties,
        exposure=read_exposure(run, _test_speakers(board)),
    )


def _folds_record(folds: Sequence[Fold]) -> dict[str, Any]:
    """The speakers of each part, fold by fold; of one fold under its old name."""
    if len(folds) == 1:
        return {"partition": folds[0].model_dump(mode="json", exclude={"name"})}
    return {"folds": [fold.model_dump(mode="json") for fold in folds]}


def _test_speakers(board: Leaderboard) -> set[str]:
    winners = (*board.winners, *board.baselines)
    return {speaker for winner in winners for choice in winner.choices for speaker in choice.fold.test}


def _ranked_row(run: Run, board: Leaderboard, winner: Winner, predictions: Predictions | None) -> Row:
    """A row of the leaderboard; what was tried of its kind and left out since counts as tried."""
    before = winner.candidates.tried_before(board.others)
    if len(winner.choices) > 1:
        # Each fold chooses for itself, so no single luck of having been the best can be taken off.
        return replace(_row(run, winner, None, predictions), tried_before=len(before))
    counts_CSEE = winner.candidates.counts(winner.condition)
    if before:
        of_seeds = ([list(r.confusion[winner.condition].values()) for r in results] for results in before.values())
        others_CSEE = [np.sum(counts, axis=0) for counts in of_seeds]
        counts_CSEE = np.concatenate([counts_CSEE, np.array(others_CSEE, np.int64)])
    won = list(winner.candidates.results).index(winner.choices[0].configuration)
    row = _row(run, winner, select_best(counts_CSEE, won), predictions)
    return replace(row, tried_before=len(before))


def _predictions(run: Run, winner: Winner) -> Predictions:
    learnt = learnt_noises(run, winner) if winner.condition == "noisy" else None
    tables, library = read_predictions(run, winner), run.store.recipe.noise_library
    return Predictions.read(tables, run.store.emotions, winner.seeds, learnt, library)


def _row(run: Run, winner: Winner, selection: Selection | None, predictions: Predictions | None) -> Row:
    if predictions is None:
        return Row(winner, selection, None, ())
    opened = [opened_at(run, result, winner.condition) for result in winner.results]
    counts = count_test_predictions(run, winner)
    uas = tuple(float(mean_recall(trial.all_SEE.sum(0))) for trial in counts)
    evidence = predictions.evidence(units_of(winner))
    return Row(winner, selection, evidence, tuple(time for time in opened if time), uas)


def units_of(winner: Winner) -> Units:
    """What the tests of a winner's board flip whole."""
    return Units.of_folds([choice.fold for choice in winner.choices])


def _comparable(predictions: Mapping[int, Predictions]) -> dict[int, Counts]:
    """Test confusions in which each utterance counts as often, however many seeds a row has."""
    seeds = lcm(*(each.seeds for each in predictions.values()))
    return {number: each.counts() * (seeds // each.seeds) for number, each in predictions.items()}


def _baselines(
    run: Run, winners: Sequence[Winner], generator: np.random.Generator
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Rows of Table 3, and their letters."""
    predictions = {number: _predictions(run, winner) for number, winner in enumerate(winners) if winner.predictions}
    ties: dict[int, str] = {}
    protocols = dict.fromkeys((winner.candidates.protocol, winner.condition) for winner in winners)
    for protocol, condition in protocols:
        alike = {
            number: predictions[number]
            for number, winner in enumerate(winners)
            if number in predictions and (winner.candidates.protocol, winner.condition) == (protocol, condition)
        }
        if alike:
            ranking = rank(_comparable(alike), units_of(winners[min(alike)]), generator)
            ties.update(zip(ranking.order, ranking.letters, strict=True))
    rows = tuple(_row(run, winner, None, predictions.get(number)) for number, winner in enumerate(winners))
    return rows, tuple(ties.get(number, "") for number in range(len(rows)))


def _baseline_record(row: Row, tie: str) -> dict[str, Any]:
    winner = row.winner
    return {
        "space": winner.candidates.space,
        "model": winner.candidates.model,
        "features": winner.features,
        "protocol": winner.candidates.protocol,
        "condition": winner.condition,
        "candidates": max(winner.candidates.tried),
        "validation_ua": _rounded(winner.validation_ua),
        "paper_ua": row.table_3_ua,
        "tie": tie or None,
        "winners": [
            {"key": choice.results[0].trial.key, "fold": choice.fold.name or None, **choice.configuration.record()}
            for choice in winner.choices
        ],
        "test": asdict(row.test) if row.test else None,
    }


def _robustness(
    winners: Sequence[Winner],
    predictions: Mapping[int, Predictions],
    hypothesis: Hypothesis | None,
    generator: np.random.Generator,
) -> Iterable[Robustness]:
    """What noise costs, for each kind of features; one winner stands for each model."""
    best: dict[tuple[str, str], int] = {}
    for number in predictions:
        winner = winners[number]
        if winner.condition == "noisy":
            kind = (winner.candidates.features, winner.candidates.model)
            if kind not in best or precedence(winner) > precedence(winners[best[kind]]):
                best[kind] = number
    for features in dict.fromkeys(features for features, _ in best):
        models = [
            (winners[number].candidates.space, model, predictions[number])
            for (of_features, model), number in best.items()
            if of_features == features
        ]
        units = units_of(next(winners[number] for (of_features, _), number in best.items() if of_features == features))
        yield robustness(features, models, units, hypothesis, generator)


def _sweeps(groups: Iterable[Candidates], rows: Sequence[Row]) -> Iterable[Sweep]:
    for candidates in groups:
        if len(candidates.results) < SHORTEST_SWEEP or varying(candidates) != ["h1"]:
            continue
        ordered = sorted(candidates.results, key=_h1)
        heights = tuple(_h1(configuration) for configuration in ordered)
        curves: dict[Condition, Curve] = {}
        for row in rows:
            if row.winner.candidates is candidates:
                ua = [candidates.ua(configuration, row.winner.condition) for configuration in ordered]
                filtered = median_filter(ua, MEDIAN_WINDOW).tolist()
                test_ua = row.test.overall.ua if row.test else None
                peak = _h1(row.winner.configuration)
                curves[row.winner.condition] = Curve(tuple(ua), tuple(filtered), peak, test_ua)
        kind = (candidates.model, candidates.features, ordered[0].kernels[1][0])
        papers = heights == tuple(SWEEP) and kind == ("S-CLDNN", "log-mels", 3)
        yield Sweep(candidates, heights, curves, papers)


def _h1(configuration: Configuration) -> int:
    (h1, _), _ = configuration.kernels
    return h1


def varying(candidates: Candidates) -> list[str]:
    """Names of the parameters in which candidates differ."""
    records = [configuration.record() for configuration in candidates.results]
    return [name for name in records[0] if len({repr(record[name]) for record in records}) > 1]


def format_settings(settings: Mapping[str, Any]) -> str:
    """Settings as a sentence has them.

    Example:
        >>> format_settings({"epochs": 20, "dense": [64, 32]})
        'epochs = 20, dense = [64, 32]'
    """
    return ", ".join(f"{name} = {_plain(value)}" for name, value in settings.items())


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> Any:
    """A setting as a cell of a table: lists as text."""
    return _plain(value) if isinstance(value, list | tuple) else value


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
