"""Probing a run's winners, one after the other (Section 7.5).

Shapes: U utterances (copies), S speakers, E emotions, D numbers of a representation, P permutations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import Leaderboard, Winner, select_winners
from sersearch.evaluation.probe.findings import (
    Accuracy,
    Attribute,
    Findings,
    Noise,
    ProbedModule,
    ProbedWinner,
    Separability,
    figures_of,
    findings_name,
)
from sersearch.evaluation.probe.probes import (
    FOLDS,
    Indices,
    Rows,
    choose_svm,
    cross_validate,
    deal,
    predict,
    prediction_p,
    shuffle,
)
from sersearch.evaluation.probe.representations import Representations, write_representations
from sersearch.evaluation.probe.separability import inertia, project
from sersearch.evaluation.test_partition import record_ledger
from sersearch.run.records import seal
from sersearch.run.run import Run
from sersearch.speech.augment import snr_bands
from sersearch.statistics.counts import Counts, mean_recall, speaker_confusions
from sersearch.statistics.intervals import noise_loss, speaker_interval
from sersearch.study.conditions import Condition
from sersearch.study.configuration.base import Module
from sersearch.workers import in_parallel

SEED = 0


def probe(run: Run, condition: Condition, tell: Callable[[str], object], workers: int | None = None) -> Findings:
    """Probe the winners under a condition, and keep what is found; the same run gives the same bits.

    Representations that are there are used again. A winner of several seeds is represented by its first seed's model.

    Args:
        run: a complete run.
        condition: whose winners.
        tell: called with a sentence about each winner that is done.
        workers: processes; one per core unless given.

    Raises:
        InputError: the run is not complete, or has no such winners.
    """
    board = select_winners(run)
    winners = _winners(run, board, condition)
    # The same trials may win in two spaces.
    by_keys = {winner.keys: winner for winner in winners}
    tell(f"{len(by_keys)} winners under the {condition} condition; their test speakers are opened where they were not")
    probe_winner = ProbeWinner(run, record_ledger(run, board))
    modules: dict[tuple[str, ...], tuple[ProbedModule, ...]] = {}
    for keys, probed in in_parallel(probe_winner, list(by_keys.values()), workers):
        modules[keys] = probed
        candidates = by_keys[keys].candidates
        tell(f"{len(modules)}/{len(by_keys)} {candidates.title}, {candidates.space}")
    targets = probe_winner.targets(winners[0])
    findings = Findings(
        condition=condition,
        emotions=run.store.emotions,
        utterance=targets.utterance,
        labels={attribute: tuple(names.tolist()) for attribute, names in targets.names.items()},
        omitted=targets.omitted,
        winners=tuple(_record(winner, winners, modules[winner.keys]) for winner in winners),
    )
    run.storage.put(findings_name(condition), seal(findings))
    return findings


def _record(winner: Winner, winners: list[Winner], modules: tuple[ProbedModule, ...]) -> ProbedWinner:
    candidates = winner.candidates
    of_same_kind = [other for other in winners if other.candidates.title == candidates.title]
    return ProbedWinner(
        key=winner.key,
        keys=winner.keys,
        figures=figures_of(winner),
        space=candidates.space,
        model=candidates.model,
        features=candidates.features,
        represents_model=winner is max(of_same_kind, key=precedence),
        modules=modules,
    )


def precedence(winner: Winner) -> tuple[bool, float]:
    """Of several spaces of one model the paper's stands for it (Section 7.4: not the sweep), else the best."""
    return winner.candidates.is_papers, winner.validation_ua


@dataclass(frozen=True)
class ProbeWinner:
    """Probes one winner; sent to other processes.

    Attributes:
        run: whose winner.
        ledger: what `record_ledger` returned.
    """

    run: Run
    ledger: str

    def __call__(self, winner: Winner) -> tuple[tuple[str, ...], tuple[ProbedModule, ...]]:
        """The winner's keys and its modules."""
        folds = [self._representations(winner, number) for number in range(len(winner.choices))]
        targets = [ProbeTargets.of(representations, self.run.store.emotions) for representations in folds]
        # More threads are slower on matrices this small, by far on a loaded machine, and their number changes bits.
        with threadpool_limits(1):
            modules = [
                probe_folds([representations.column(module) for representations in folds], module, targets)
                for module in folds[0].modules
            ]
        return winner.keys, tuple(modules)

    def targets(self, winner: Winner) -> ProbeTargets:
        """The utterances and labels that a winner is probed with in the first fold, the same for all winners."""
        return ProbeTargets.of(self._representations(winner, 0), self.run.store.emotions)

    def _representations(self, winner: Winner, number: int) -> Representations:
        name = write_representations(self.run, winner, self.ledger, number)
        return Representations.read(self.run.storage, name)


def _winners(run: Run, board: Leaderboard, condition: Condition) -> list[Winner]:
    """The winners that have modules."""
    if not board.complete:
        raise InputError(
            f"{run.path}: {board.done} of {board.total} trials are done, and the test speakers stay sealed until all "
            f"are; resume with `sersearch resume {run.path}`"
        )
    winners = [winner for winner in board.winners if winner.condition == condition and winner.configuration.modules]
    if not winners:
        raise InputError(
            f"{run.path}: no model with modules to probe won under the {condition} condition; noisy winners need a "
            "store with noise, and every winner a configuration that was trained with all its seeds"
        )
    return winners


@dataclass(frozen=True)
class AttributeFolds:
    """Labels, folds and shuffled labels of one attribute; the folds are the same for all modules and winners."""

    label_U: Indices
    fold_U: Indices
    shuffled_PU: NDArray[np.int64]


@dataclass(frozen=True)
class ProbeTargets:
    """The utterances and labels that every winner of a run is probed with.

    Attributes:
        utterance: names of the clean training utterances.
        names: their emotions, speakers and genders, without the attributes that are omitted.
        omitted: the attributes that are not probed, and why.
        attribute_folds: the labels and folds of speakers and genders.
        emotion_U: class of every copy.
        speaker_U: speaker of every copy.
        train: indices of the clean training utterances.
        validation: indices of the clean validation utterances.
        test: indices of all copies of the test speakers' utterances.
        twin: for each copy in `test`, the position in `test` of the clean copy of the same utterance.
        bands: by SNR band, which copies in `test` lie in it; all noisy copies first.
        shuffled_PU: emotions of the clean test utterances, shuffled within each speaker.
    """

    utterance: tuple[str, ...]
    names: dict[Attribute, NDArray[np.str_]]
    omitted: dict[Attribute, str]
    attribute_folds: dict[Attribute, AttributeFolds]
    emotion_U: Indices
    speaker_U: NDArray[np.str_]
    train: Indices
    validation: Indices
    test: Indices
    twin: Indices
    bands: dict[str, NDArray[np.bool_]]
    shuffled_PU: NDArray[np.int64]

    @classmethod
    def of(cls, found: Representations, emotions: tuple[str, ...]) -> Self:
        """Draw the folds and shuffle the labels; both depend on the labels alone, so all winners share them."""
        emotion_U = np.array([emotions.index(name) for name in found.emotion_U.tolist()])
        train, clean_test = found.clean("train"), found.clean("test")
        test = np.flatnonzero(found.part_U == "test")
        place = dict(
            zip(found.utterance_U[clean_test].tolist(), np.searchsorted(test, clean_test).tolist(), strict=True)
        )
        snr_db_U = found.snr_db_U[test]
        noisy = {"all": ~np.isnan(snr_db_U)} if len(clean_test) < len(test) else {}
        names: dict[Attribute, NDArray[np.str_]] = {
            "emotion": found.emotion_U[train],
            "speaker": found.speaker_U[train],
            "gender": found.gender_U[train],
        }
        omitted = _omitted(names["speaker"], names["gender"])
        attribute_folds: dict[Attribute, AttributeFolds] = {}
        if "speaker" not in omitted:
            attribute_folds["speaker"] = _speaker_folds(names["speaker"], emotion_U[train])
        if "gender" not in omitted:
            attribute_folds["gender"] = _gender_folds(names["speaker"], names["gender"])
        return cls(
            utterance=tuple(found.utterance_U[train].tolist()),
            names={attribute: names_U for attribute, names_U in names.items() if attribute not in omitted},
            omitted=omitted,
            attribute_folds=attribute_folds,
            emotion_U=emotion_U,
            speaker_U=found.speaker_U,
            train=train,
            validation=found.clean("validation"),
            test=test,
            twin=np.array([place[name] for name in found.utterance_U[test].tolist()]),
            bands=noisy | snr_bands(snr_db_U),
            shuffled_PU=shuffle(emotion_U[clean_test], found.speaker_U[clean_test], np.random.default_rng(SEED)),
        )


def _omitted(speaker_U: NDArray[np.str_], gender_U: NDArray[np.str_]) -> dict[Attribute, str]:
    omitted: dict[Attribute, str] = {}
    gender_of = dict(zip(speaker_U.tolist(), gender_U.tolist(), strict=True))
    genders = Counter(gender_of.values())
    if len(gender_of) == 1:
        omitted["speaker"] = "there is only one training speaker"
    if unknown := [speaker for speaker, gender in gender_of.items() if not gender]:
        omitted["gender"] = f"it is unknown for training speaker {unknown[0]}"
    elif len(genders) == 1:
        omitted["gender"] = f"all training speakers are {gender_U[0]}"
    elif min(genders.values()) == 1:
        omitted["gender"] = f"only one training speaker is {min(genders, key=genders.__getitem__)}"
    return omitted


def _speaker_folds(name_U: NDArray[np.str_], emotion_U: Indices) -> AttributeFolds:
    """Folds have a share of each speaker's utterances of each emotion; labels are shuffled within fold and emotion."""
    generator = np.random.default_rng(SEED)
    speaker_U = np.unique(name_U, return_inverse=True)[1]
    emotions = int(emotion_U.max()) + 1
    fold_U = deal(speaker_U * emotions + emotion_U, FOLDS, generator)
    return AttributeFolds(speaker_U, fold_U, shuffle(speaker_U, fold_U * emotions + emotion_U, generator))


def _gender_folds(name_U: NDArray[np.str_], gender_U: NDArray[np.str_]) -> AttributeFolds:
    """Folds have other speakers, a share of each gender's; genders are shuffled over a fold's speakers."""
    generator = np.random.default_rng(SEED)
    _, first_S, speaker_U = np.unique(name_U, return_index=True, return_inverse=True)
    gender_S = np.unique(gender_U[first_S], return_inverse=True)[1]
    fold_S = deal(gender_S, min(FOLDS, int(np.bincount(gender_S).min())), generator)
    return AttributeFolds(gender_S[speaker_U], fold_S[speaker_U], shuffle(gender_S, fold_S, generator)[:, speaker_U])


def probe_module(x_UD: Rows, module: Module, targets: ProbeTargets) -> ProbedModule:
    """Measure everything that a probe measures on a module's representations of all copies."""
    return probe_folds([x_UD], module, [targets])


def probe_folds(folds: Sequence[Rows], module: Module, targets: Sequence[ProbeTargets]) -> ProbedModule:
    """Probe a module in each fold, and add the answers on the folds' test speakers up.

    Speaker, gender and separability are those of the first fold, whose training utterances the pictures show.

    Args:
        folds: the module's representations of all copies, by fold.
        module: its name.
        targets: of each fold.
    """
    chosen = [choose_svm(x_UD, t.emotion_U, t.train, t.validation) for x_UD, t in zip(folds, targets, strict=True)]
    predicted = [
        predict(x_UD, t.emotion_U, t.train, t.test, svm) for x_UD, t, svm in zip(folds, targets, chosen, strict=True)
    ]
    answers = Answers.join(targets, predicted)
    first = targets[0]
    x_train_UD = folds[0][first.train]
    return ProbedModule(
        name=module,
        numbers=folds[0].shape[1],
        kernel=chosen[0].kernel,
        C=chosen[0].C,
        validation_ua=fmean(svm.validation_ua for svm in chosen),
        accuracy={
            "emotion": answers.emotion(),
            **{name: _cross_validated(x_train_UD, each, first) for name, each in first.attribute_folds.items()},
        },
        noise=tuple(answers.noise(band) for band in answers.bands),
        separability={name: _separability(x_train_UD, name_U, module) for name, name_U in first.names.items()},
    )


@dataclass(frozen=True)
class Answers:
    """What the probes of a module answer on test copies, those of all folds one after the other.

    Attributes:
        emotions: E, how many classes there are.
        emotion_T: class of each copy.
        predicted_T: predicted class.
        speaker_T: names.
        twin_T: position of the clean copy of the same utterance.
        bands: by SNR band, which copies lie in it.
        shuffled_PU: emotions of the clean copies, shuffled within each speaker.
    """

    emotions: int
    emotion_T: Indices
    predicted_T: Indices
    speaker_T: NDArray[np.str_]
    twin_T: Indices
    bands: dict[str, NDArray[np.bool_]]
    shuffled_PU: NDArray[np.int64]

    @classmethod
    def join(cls, targets: Sequence[ProbeTargets], predicted: Sequence[Indices]) -> Self:
        """Put the answers of all folds together."""
        starts = np.cumsum([0, *(len(t.test) for t in targets)])
        names = dict.fromkeys(band for t in targets for band in t.bands)
        return cls(
            emotions=int(max(t.emotion_U.max() for t in targets)) + 1,
            emotion_T=np.concatenate([t.emotion_U[t.test] for t in targets]),
            predicted_T=np.concatenate(predicted),
            speaker_T=np.concatenate([t.speaker_U[t.test] for t in targets]),
            twin_T=np.concatenate([start + t.twin for start, t in zip(starts, targets, strict=False)]),
            bands={
                name: np.concatenate([t.bands.get(name, np.zeros(len(t.test), np.bool_)) for t in targets])
                for name in names
            },
            shuffled_PU=np.concatenate([t.shuffled_PU for t in targets], axis=1),
        )

    def emotion(self) -> Accuracy:
        """Table 5's figure: on the clean test utterances."""
        clean = np.unique(self.twin_T)
        p_value = prediction_p(self.emotion_T[clean], self.predicted_T[clean], self.shuffled_PU)
        return _accuracy(self._counts(clean, clean), p_value)

    def noise(self, band: str) -> Noise:
        """What noise of a band costs: its copies against the clean copies of the same utterances."""
        copies = np.flatnonzero(self.bands[band])
        noisy_SEE, clean_SEE = self._counts(copies, copies), self._counts(copies, self.twin_T[copies])
        loss = noise_loss(clean_SEE, noisy_SEE)
        clean_ua, noisy_ua = (float(mean_recall(counts_SEE.sum(0))) for counts_SEE in (clean_SEE, noisy_SEE))
        return Noise(
            band=band, copies=len(copies), clean_ua=clean_ua, noisy_ua=noisy_ua, loss=loss.value, interval=loss.interval
        )

    def _counts(self, copies: Indices, answered: Indices) -> Counts:
        """Confusions [S, E, E] of some copies, with the answers given to others of the same utterances."""
        return speaker_confusions(
            self.emotion_T[copies], self.predicted_T[answered], self.speaker_T[copies], self.emotions
        )


def _cross_validated(x_UD: NDArray[np.floating], question: AttributeFolds, targets: ProbeTargets) -> Accuracy:
    predicted_U, p_value = cross_validate(x_UD, question.label_U, question.fold_U, question.shuffled_PU)
    classes = int(question.label_U.max()) + 1
    return _accuracy(speaker_confusions(question.label_U, predicted_U, targets.names["speaker"], classes), p_value)


def _accuracy(counts_SCC: Counts, p_value: float) -> Accuracy:
    total_CC = counts_SCC.sum(0)
    return Accuracy(
        ua=float(mean_recall(total_CC)),
        interval=speaker_interval(counts_SCC),
        chance=100 / np.count_nonzero(total_CC.sum(1)),
        p_value=p_value,
    )


def _separability(x_UD: NDArray[np.floating], name_U: NDArray[np.str_], module: Module) -> Separability:
    class_U = np.unique(name_U, return_inverse=True)[1]
    found = inertia(x_UD, class_U)
    points = [] if module == "raw" else project(x_UD, class_U).round(3).tolist()
    return Separability(intra=found.intra, inter=found.inter, rho=found.rho, points=points)
