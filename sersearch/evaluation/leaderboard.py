"""From a ledger to winners: the best on validation, per space, model, features and condition (Section 6.2).

Nothing here reads a test speaker; `sersearch.evaluation.test_partition` does, for winners alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np

from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.statistics.counts import Counts
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.base import Protocol
from sersearch.study.fold import Fold
from sersearch.study.paper import MODELS, is_papers_space
from sersearch.study.trial import Trial

Results = tuple[Result, ...]
"""Of one configuration on one fold, one per seed; none where it is no candidate there."""


@dataclass(frozen=True)
class Candidates:
    """The configurations of one model and features in one space, as far as all their trials were trained to the end.

    Attributes:
        space: name of the space.
        model: of all its configurations.
        features: of all its configurations, or the family under which they are ranked together.
        protocol: how the speakers were dealt into folds.
        folds: in the order of the protocol.
        results: of each configuration on each fold, in the order of `folds`; no results on a fold where it is no
            candidate, because it failed there, was stopped by a pruner, or was never tried: where results decide what
            is tried, each fold decides by its own.
    """

    space: str
    model: str
    features: str
    protocol: Protocol
    folds: tuple[Fold, ...]
    results: Mapping[Configuration, tuple[Results, ...]]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions under which they can be ranked."""
        return self.trials()[0].conditions

    @property
    def tried(self) -> tuple[int, ...]:
        """How many configurations each fold chooses from."""
        return tuple(len(self._of_fold(fold)) for fold in range(len(self.folds)))

    @property
    def title(self) -> str:
        """Model and features."""
        return f"{self.model} ({self.features})"

    def trials(self) -> list[Result]:
        """The results of all configurations, folds and seeds."""
        return [result for by_fold in self.results.values() for results in by_fold for result in results]

    def ua(self, configuration: Configuration, condition: Condition, fold: int | None = None) -> float:
        """Validation UA in per cent, mean over the seeds of one fold, or of all folds where it is a candidate."""
        by_fold = self.results[configuration]
        chosen = by_fold if fold is None else by_fold[fold : fold + 1]
        return fmean(result.ua(condition) for results in chosen for result in results)

    def best(self, condition: Condition, fold: int = 0) -> Configuration:
        """The best on a fold's validation speakers; ties go to fewer parameters, then to the smaller key."""

        def rank(configuration: Configuration) -> tuple[float, int, str]:
            first = self.results[configuration][fold][0]
            return -self.ua(configuration, condition, fold), first.parameters, first.trial.key

        return min(self._of_fold(fold), key=rank)

    def counts(self, condition: Condition, fold: int = 0) -> Counts:
        """Validation confusions of a fold, summed over the seeds: [configurations, speakers, emotions, emotions]."""
        summed = []
        for configuration in self._of_fold(fold):
            of_seeds = [list(result.confusion[condition].values()) for result in self.results[configuration][fold]]
            summed.append(np.sum(of_seeds, axis=0))
        return np.array(summed, np.int64)

    def _of_fold(self, fold: int) -> list[Configuration]:
        """The configurations that are candidates in a fold."""
        return [configuration for configuration, by_fold in self.results.items() if by_fold[fold]]

    def tried_before(self, others: Sequence[Result]) -> dict[Configuration, Results]:
        """Configurations of the same kind, on the first fold, that were trained to the end but are no candidates now.

        Args:
            others: `Leaderboard.others`.

        Returns:
            The results of each, one per seed; as many seeds as candidates have, or the configuration is left out.
        """
        learnt = self.folds[0].sealed.model_copy(update={"name": ""})
        found: dict[Configuration, list[Result]] = defaultdict(list)
        for result in others:
            c, fold = result.trial.configuration, result.trial.fold.sealed.model_copy(update={"name": ""})
            kind = c.model, c.family, c.protocol
            if kind == (self.model, self.features, self.protocol) and fold == learnt and result.stopped != "pruned":
                found[c].append(result)
        seeds = len(next(iter(self.results.values()))[0])
        return {c: tuple(of_seeds[:seeds]) for c, of_seeds in found.items() if len(of_seeds) >= seeds}

    @cached_property
    def is_papers(self) -> bool:
        """Whether the space is the paper's (Table 2)."""
        return is_papers_space(self.model, self.features, self.results)


@dataclass(frozen=True)
class Choice:
    """The winner of one fold, chosen by the fold's own validation speakers."""

    fold: Fold
    configuration: Configuration
    results: Results


@dataclass(frozen=True)
class Winner:
    """The best of some candidates under one condition.

    Attributes:
        candidates: what it is the best of.
        condition: under which it was selected, and is tested.
        choices: the winner of each fold.
        predictions: names of the objects that hold its test predictions: all folds of the first seed, then those of the
            next; empty as long as it is not tested.
    """

    candidates: Candidates
    condition: Condition
    choices: tuple[Choice, ...]
    predictions: tuple[str, ...] = ()

    @property
    def configuration(self) -> Configuration:
        """The configuration that most folds chose, the first one on a tie."""
        chosen = [choice.configuration for choice in self.choices]
        return max(chosen, key=chosen.count)

    @property
    def chosen_by(self) -> int:
        """How many folds chose `configuration`."""
        return sum(choice.configuration == self.configuration for choice in self.choices)

    @property
    def results(self) -> Results:
        """Its trials: all folds of the first seed, then those of the next."""
        return tuple(choice.results[seed] for seed in range(self.seeds) for choice in self.choices)

    @property
    def trials(self) -> tuple[tuple[Result, Fold], ...]:
        """Its trials in the order of `results`, each with its fold, test speakers included."""
        return tuple((choice.results[seed], choice.fold) for seed in range(self.seeds) for choice in self.choices)

    @property
    def seeds(self) -> int:
        """How often each choice was trained."""
        return len(self.choices[0].results)

    @property
    def key(self) -> str:
        """The key of its first trial."""
        return self.results[0].trial.key

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its first seed's trials, one per fold."""
        return tuple(choice.results[0].trial.key for choice in self.choices)

    @property
    def features(self) -> str:
        """The configuration's: of an SVM its set of vectors."""
        return self.configuration.features

    @property
    def title(self) -> str:
        """Model and features."""
        return f"{self.candidates.model} ({self.features})"

    @property
    def parameters(self) -> int:
        """Trained parameters."""
        return self.choices[0].results[0].parameters

    @property
    def knows_speakers(self) -> bool:
        """Whether one of its choices is normalised by each speaker's own utterances."""
        return any(choice.configuration.knows_speakers for choice in self.choices)

    @property
    def validation_ua(self) -> float:
        """In per cent, mean over folds and seeds."""
        return fmean(result.ua(self.condition) for choice in self.choices for result in choice.results)


@dataclass(frozen=True)
class Leaderboard:
    """The winners of a run and how far it is.

    Attributes:
        winners: on the study's partition, in the paper's order of models, noisy before clean.
        baselines: the best of each set of vectors under each protocol (Table 3), and whatever else is trained under a
            protocol other than the partition.
        candidates: what the winners are the best of, in the same order.
        done: trials of the study with a result.
        total: trials of the study, at most.
        failed: trials that failed for good.
        trials: all that are done, by name of space, each with its result; those of a sampler's space as far as they
            are drawn.
        complete: whether every trial has an outcome.
        others: results in the ledger that the study does not name, of spaces that were narrowed or left out since.
    """

    winners: tuple[Winner, ...]
    baselines: tuple[Winner, ...]
    candidates: tuple[Candidates, ...]
    done: int
    total: int
    failed: int
    trials: Mapping[str, tuple[tuple[Trial, Result], ...]]
    complete: bool
    others: Results = ()

    @property
    def results(self) -> dict[str, Result]:
        """The results of the study's trials by key."""
        return {trial.key: result for trials in self.trials.values() for trial, result in trials}

    @cached_property
    def figures(self) -> dict[str, str]:
        """`Result.figures_digest` of each of them."""
        return {key: result.figures_digest for key, result in self.results.items()}

    @property
    def pruned(self) -> int:
        """Trials that a pruner stopped; those and what failed make no candidate."""
        return sum(result.stopped == "pruned" for result in self.results.values())

    @property
    def tested(self) -> bool:
        """Whether every winner has test predictions."""
        return all(winner.predictions for winner in (*self.winners, *self.baselines))


def select_winners(run: Run) -> Leaderboard:
    """Select the winners of a run by validation; the test partition stays sealed.

    Test predictions of a complete run that exist are named; none are made.
    """
    results = run.ledger.results()
    agenda = run.agenda(results)
    conditions: tuple[Condition, ...] = CONDITIONS if run.store.recipe.noises > 0 else ("clean",)
    by_family = _group(agenda, results, lambda configuration: configuration.family)
    ranked = sorted((c for c in by_family if c.protocol == "partition"), key=_paper_order)
    by_features = _group(agenda, results, lambda configuration: configuration.features)
    others = [candidates for candidates in by_features if _is_baseline(candidates)]
    winners, baselines = _winners(ranked, conditions), _winners(others, conditions)
    if agenda.complete:
        winners = [_with_predictions(run, winner) for winner in winners]
        baselines = [_with_predictions(run, winner) for winner in baselines]
    return Leaderboard(
        winners=tuple(winners),
        baselines=tuple(baselines),
        candidates=tuple(ranked),
        done=sum(key in results for key in agenda.trials),
        total=agenda.upper_bound(),
        failed=len(agenda.failed),
        trials={
            name: tuple((trial, results[trial.key]) for trial in trials if trial.key in results)
            for name, trials in agenda.spaces.items()
        },
        complete=agenda.complete,
        others=tuple(result for key, result in results.items() if key not in agenda.trials),
    )


def _is_baseline(candidates: Candidates) -> bool:
    """Whether Table 3 shows them: trained on vectors, or under another protocol than the partition."""
    on_vectors = next(iter(candidates.results)).vectors is not None
    return on_vectors or candidates.protocol != "partition"


def _winners(groups: Sequence[Candidates], conditions: Sequence[Condition]) -> list[Winner]:
    return [
        select_winner(candidates, condition)
        for candidates in groups
        for condition in conditions
        if condition in candidates.conditions
    ]


def select_winner(candidates: Candidates, condition: Condition) -> Winner:
    """Let each fold choose its best configuration."""
    choices = []
    for number, fold in enumerate(candidates.folds):
        best = candidates.best(condition, number)
        choices.append(Choice(fold, best, candidates.results[best][number]))
    return Winner(candidates, condition, tuple(choices))


def _with_predictions(run: Run, winner: Winner) -> Winner:
    """Name the winner's test predictions where all of them exist."""
    names = tuple(predictions_name(result.trial.key, winner.condition) for result in winner.results)
    if not all(run.storage.exists(record_name(name)) for name in names):
        return winner
    return Winner(winner.candidates, winner.condition, winner.choices, names)


def predictions_name(key: str, condition: Condition) -> str:
    """The object of a trial's test predictions under a condition."""
    return f"test/{key}-{condition}.parquet"


def record_name(name: str) -> str:
    """The record beside a large object, which names its hash and is put when the object is complete."""
    return f"{name.removesuffix('.parquet')}.json"


def _group(
    agenda: Agenda, results: Mapping[str, Result], features_of: Callable[[Configuration], str]
) -> list[Candidates]:
    """The candidates of each space, model, features and protocol, in the order of the spaces."""
    found: dict[tuple[str, str, str, Protocol], dict[Configuration, dict[Fold, list[Trial]]]] = defaultdict(dict)
    for space, trials in agenda.spaces.items():
        for trial in trials:
            c = trial.configuration
            kind = space, c.model, features_of(c), c.protocol
            found[kind].setdefault(c, {}).setdefault(trial.fold, []).append(trial)
    groups = []
    for kind, by_configuration in found.items():
        folds = agenda.folds_for(next(iter(by_configuration)))
        by_fold = {
            configuration: tuple(_results(trials.get(fold, ()), results) for fold in folds)
            for configuration, trials in by_configuration.items()
        }
        candidates = {configuration: of_folds for configuration, of_folds in by_fold.items() if any(of_folds)}
        # Without a candidate in each fold, the folds don't add up to all speakers.
        if all(any(of_folds[number] for of_folds in candidates.values()) for number in range(len(folds))):
            groups.append(Candidates(*kind, folds, candidates))
    return groups


def _results(trials: Sequence[Trial], results: Mapping[str, Result]) -> Results:
    """A configuration's results on one fold; none where a seed has no result, or was stopped by a pruner."""
    found = [results.get(trial.key) for trial in trials]
    complete = [result for result in found if result is not None and result.stopped != "pruned"]
    return tuple(complete) if len(complete) == len(found) else ()


def _paper_order(candidates: Candidates) -> tuple[int, str]:
    kind = candidates.model, candidates.features
    place = MODELS.index(kind) if kind in MODELS else len(MODELS)
    return place, candidates.space
