"""What a winner got right, as plain counts per fold, seed and speaker: all that statistics are computed from.

Shapes: S speaker, E emotion (true, then predicted).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sersearch.evaluation.leaderboard import Winner
from sersearch.evaluation.test_partition import read_predictions
from sersearch.run.run import Run
from sersearch.statistics.counts import Counts, speaker_confusions
from sersearch.study.fold import Fold


@dataclass(frozen=True)
class FoldCounts:
    """Confusions of one trained model: one fold and one seed of a winner.

    Attributes:
        fold: number of the fold, from 0, in the order of the study's folds.
        fold_name: name of the fold; empty where there is one fold.
        seed: number of the seed, from 0.
        key: key of the trial.
        speakers: names of the S speakers, sorted.
        clean_SEE: counts of the clean copies.
        noisy_SEE: counts of the noisy copies alone; zeros where the model was evaluated on clean copies only.
        unseen_SEE: those of `noisy_SEE` whose noise is in no training copy of the fold; None of validation copies,
            whose noises are not kept.
    """

    fold: int
    fold_name: str
    seed: int
    key: str
    speakers: tuple[str, ...]
    clean_SEE: Counts
    noisy_SEE: Counts
    unseen_SEE: Counts | None = None

    @property
    def all_SEE(self) -> Counts:
        """Counts of all copies, clean and noisy: the paper's noisy condition."""
        return self.clean_SEE + self.noisy_SEE


def count_validation_predictions(winner: Winner) -> tuple[FoldCounts, ...]:
    """Count a winner's validation predictions: one entry per trial, in the order of `Winner.results`.

    The validation speakers of one fold are test or training speakers of others, so counts of several folds are not to
    be added up.
    """
    counts = []
    for at, (result, _) in enumerate(winner.trials):
        clean = result.confusion["clean"]
        speakers = tuple(sorted(clean))
        clean_SEE = np.array([clean[speaker] for speaker in speakers], np.int64)
        noisy_SEE = np.zeros_like(clean_SEE)
        if "noisy" in result.confusion:
            noisy_SEE = np.array([result.confusion["noisy"][speaker] for speaker in speakers], np.int64) - clean_SEE
        counts.append(_entry(winner, at, speakers, clean_SEE, noisy_SEE))
    return tuple(counts)


def count_test_predictions(run: Run, winner: Winner) -> tuple[FoldCounts, ...]:
    """Count a tested winner's test predictions: one entry per trial, in the order of `Winner.results`.

    Over the folds of one seed each speaker is tested once, so their counts may be added up.

    Returns:
        Nothing where the winner is not tested.
    """
    tables = read_predictions(run, winner)
    learnt = learnt_noises(run, winner) if tables else ()
    return tuple(_of_table(winner, at, table, run.store.emotions, learnt[at]) for at, table in enumerate(tables))


def learnt_noises(run: Run, winner: Winner) -> tuple[frozenset[str], ...]:
    """The noises that each of a winner's trials was trained on, in the order of `Winner.results`.

    Only the test under the noisy condition has noises; under the clean one they are not looked up.
    """
    is_noisy = winner.condition == "noisy"
    by_fold = [_noises(run, choice.fold) if is_noisy else frozenset[str]() for choice in winner.choices]
    return tuple(by_fold[at % len(by_fold)] for at in range(len(winner.trials)))


def _noises(run: Run, fold: Fold) -> frozenset[str]:
    """The noises of a fold's training copies."""
    return frozenset(noise for speaker in fold.train for noise in run.store.noises_of(speaker))


def _of_table(
    winner: Winner, at: int, table: pa.Table, emotions: tuple[str, ...], learnt: frozenset[str]
) -> FoldCounts:
    index = {name: number for number, name in enumerate(emotions)}
    true, predicted = (np.array([index[name] for name in table[c].to_pylist()]) for c in ("emotion", "predicted"))
    speaker = np.array(table["speaker"].to_pylist(), np.str_)
    noises = table["noise"].to_pylist()
    noisy = np.array([noise is not None for noise in noises], np.bool_)
    unseen = np.array([noise is not None and noise not in learnt for noise in noises], np.bool_)
    speakers = tuple(np.unique(speaker).tolist())

    def counts(rows: NDArray[np.int64]) -> Counts:
        counts_SEE = np.zeros((len(speakers), len(emotions), len(emotions)), np.int64)
        if len(rows):
            present = np.isin(speakers, speaker[rows])
            counts_SEE[present] = speaker_confusions(true[rows], predicted[rows], speaker[rows], len(emotions))
        return counts_SEE

    clean_SEE, noisy_SEE, unseen_SEE = (counts(np.flatnonzero(chosen)) for chosen in (~noisy, noisy, unseen))
    return _entry(winner, at, speakers, clean_SEE, noisy_SEE, unseen_SEE)


def _entry(
    winner: Winner,
    at: int,
    speakers: tuple[str, ...],
    clean_SEE: Counts,
    noisy_SEE: Counts,
    unseen_SEE: Counts | None = None,
) -> FoldCounts:
    result, fold = winner.trials[at]
    number = at % len(winner.choices)
    return FoldCounts(
        number, fold.name, result.trial.seed, result.trial.key, speakers, clean_SEE, noisy_SEE, unseen_SEE
    )
