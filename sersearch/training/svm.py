"""The paper's first baseline: a support vector machine on one vector per utterance (Section 6.1).

Clean utterances alone. Each speaker is standardised by the speaker's own utterances, which reads no label and no other
speaker, so it leaks nothing and is the same in every fold. With `standardisation = "corpus"`, all are standardised by
the training speakers' utterances, as networks are unless a study says otherwise.

Shapes: U utterances, D numbers per utterance, S speakers, E emotions (true, then predicted).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import safetensors.numpy
from cachetools import LRUCache
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.models.svm import (
    SupportVectors,
    apply_kernel,
    classify,
    decide,
    fit,
    fit_scale,
    standardise,
    standardise_by,
)
from sersearch.run.ledger import Confusion, Result
from sersearch.store.reader import Store
from sersearch.store.vectors.reader import VectorSet, open_vector_set
from sersearch.study.conditions import Condition
from sersearch.study.configuration import SVMConfiguration
from sersearch.study.trial import Trial
from sersearch.training.system import Device, Prediction, System, environment, processor, validation_confusion

# Vectors and their products are kept from trial to trial, up to this many bytes each per process.
CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Vectors:
    """Some speakers' utterances by the products of their standardised vectors.

    Attributes:
        products_UU: the mean products, see `sersearch.models.svm.kernel_matrix`.
        dimensions: D.
        speaker_U: names.
        emotion_U: indices of the classes.
        utterance: ids.
        emotions: names of the E classes.
    """

    products_UU: NDArray[np.float64]
    dimensions: int
    speaker_U: NDArray[np.str_]
    emotion_U: NDArray[np.int64]
    utterance: tuple[str, ...]
    emotions: tuple[str, ...]

    def rows(self, speakers: Iterable[str]) -> NDArray[np.int64]:
        """Where some speakers' utterances are."""
        return np.flatnonzero(np.isin(self.speaker_U, list(speakers)))

    def kernel(self, configuration: SVMConfiguration) -> NDArray[np.float64]:
        """The kernel matrix [U, U] of a configuration."""
        c = configuration
        return apply_kernel(self.products_UU, c.kernel, c.gamma, c.degree)


@dataclass(frozen=True)
class SpeakerVectors:
    """One speaker's utterances: vectors [U, D], standardised or as they are; ids, and indices of the emotions [U]."""

    x_UD: NDArray[np.float64]
    utterance: tuple[str, ...]
    emotion_U: NDArray[np.int64]


def open_vectors(store: Store, trial: Trial, speakers: Iterable[str]) -> Vectors:
    """Open some speakers' vectors of the set that a trial is trained on; no other speaker's file is read.

    Speakers and products of two speakers are kept in this process from trial to trial.

    Raises:
        InputError: the store does not hold the set that the trial was planned on.
    """
    opened = _open_speakers(store, trial, speakers)
    if trial.configuration.knows_speakers:
        return multiply(opened, store.emotions, trial.data)
    train = trial.fold.train
    return multiply(standardise_by_others(opened, train), store.emotions, short_digest([trial.data, list(train)]))


def _open_speakers(store: Store, trial: Trial, speakers: Iterable[str]) -> dict[str, SpeakerVectors]:
    """Some speakers' vectors, standardised where each speaker's own decide; see `open_vectors`."""
    configuration = trial.configuration
    assert isinstance(configuration, SVMConfiguration)
    by_speaker = configuration.knows_speakers
    name, kept = configuration.features, trial.data if by_speaker else f"{trial.data} as it is"
    wanted = sorted(speakers)
    opened = {speaker: _SPEAKERS[kept, speaker] for speaker in wanted if (kept, speaker) in _SPEAKERS}
    missing = tuple(speaker for speaker in wanted if speaker not in opened)
    if missing:
        vector_set = open_vector_set(store, name, missing)
        if short_digest([store.fingerprint, vector_set.digest]) != trial.data:
            raise InputError(
                f"{store.path}: its vectors {name} are not those that the run began with: restore them, or name a new "
                "run folder"
            )
        found = standardise_speakers(vector_set) if by_speaker else take_speakers(vector_set)
        for speaker, vectors in found.items():
            opened[speaker] = _SPEAKERS[kept, speaker] = vectors
    return opened


def take_speakers(vector_set: VectorSet) -> dict[str, SpeakerVectors]:
    """Each speaker's vectors as they are."""
    speaker_U = np.asarray(vector_set.speaker)
    speakers = {}
    for speaker in np.unique(speaker_U).tolist():
        rows = np.flatnonzero(speaker_U == speaker)
        utterances = tuple(vector_set.utterance[row] for row in rows)
        speakers[speaker] = SpeakerVectors(vector_set.x_UD[rows], utterances, np.asarray(vector_set.emotion)[rows])
    return speakers


def standardise_speakers(vector_set: VectorSet) -> dict[str, SpeakerVectors]:
    """Each speaker's vectors, standardised by the speaker's own."""
    taken = take_speakers(vector_set)
    return {speaker: replace(vectors, x_UD=standardise(vectors.x_UD)) for speaker, vectors in taken.items()}


def standardise_by_others(speakers: Mapping[str, SpeakerVectors], train: Sequence[str]) -> dict[str, SpeakerVectors]:
    """All speakers' vectors, standardised by those of the training speakers together."""
    fitted_VD = np.concatenate([speakers[speaker].x_UD for speaker in train])
    return {
        speaker: replace(vectors, x_UD=standardise_by(vectors.x_UD, fitted_VD)) for speaker, vectors in speakers.items()
    }


def multiply(speakers: Mapping[str, SpeakerVectors], emotions: tuple[str, ...], data: str) -> Vectors:
    """Multiply the vectors of all utterances, two speakers at a time.

    The bits of two utterances' product depend on nothing but their speakers: neither on who else is there, nor on how
    many threads there are.

    Args:
        speakers: by name.
        emotions: names of the classes.
        data: a hash of the vectors, under which products are kept.
    """
    names = sorted(speakers)
    sizes = [len(speakers[name].utterance) for name in names]
    starts = dict(zip(names, np.cumsum([0, *sizes]).tolist(), strict=False))
    products_UU = np.empty((sum(sizes), sum(sizes)))
    with threadpool_limits(1):
        for a, b in combinations_with_replacement(names, 2):
            products = _multiply_pair(speakers[a], speakers[b], (data, a, b))
            rows = slice(starts[a], starts[a] + products.shape[0])
            columns = slice(starts[b], starts[b] + products.shape[1])
            products_UU[rows, columns] = products
            products_UU[columns, rows] = products.T
    return Vectors(
        products_UU=products_UU,
        dimensions=speakers[names[0]].x_UD.shape[1],
        speaker_U=np.repeat(names, sizes),
        emotion_U=np.concatenate([speakers[name].emotion_U for name in names]),
        utterance=tuple(utterance for name in names for utterance in speakers[name].utterance),
        emotions=emotions,
    )


def _multiply_pair(a: SpeakerVectors, b: SpeakerVectors, key: tuple[str, str, str]) -> NDArray[np.float64]:
    products = _PRODUCTS.get(key)
    if products is None:
        products = a.x_UD @ b.x_UD.T / max(a.x_UD.shape[1], 1)
        _PRODUCTS[key] = products
    return products


_SPEAKERS: LRUCache[tuple[str, str], SpeakerVectors] = LRUCache(
    CACHE_BYTES, getsizeof=lambda speaker: speaker.x_UD.nbytes
)
_PRODUCTS: LRUCache[tuple[str, str, str], NDArray[np.float64]] = LRUCache(
    CACHE_BYTES, getsizeof=lambda products: products.nbytes
)


class SupportVectorMachine(System):
    """An SVM, trained in one fit.

    On a fold with validation speakers it is fitted to the training speakers and validated on those. On a fold without
    it is fitted to all of the fold's speakers, and validated by leaving out each of them in turn: the speaker that it
    is tested on takes no part in its choice.
    """

    def __init__(self, trial: Trial, data: Vectors, device: Device = "cpu") -> None:
        """Fit nothing yet."""
        super().__init__(trial, data, device)
        assert isinstance(trial.configuration, SVMConfiguration)
        self.configuration = trial.configuration
        self.data = data
        self._fitted: tuple[Confusion, int, float] | None = None

    @staticmethod
    def open_data(store: Store, trial: Trial) -> Vectors:
        """Read the vectors of the fold's training and validation speakers."""
        return open_vectors(store, trial, trial.fold.learnt)

    @property
    def stopped(self) -> str | None:
        """Training is over after one fit."""
        return "fitted" if self._fitted else None

    def step(self) -> None:
        """Fit and validate."""
        start = time.perf_counter()
        fold = self.trial.fold
        with threadpool_limits(1):
            kernel_UU = self.data.kernel(self.configuration)
            confusion: Confusion = {"clean": {}}
            for validated in [fold.validation] if fold.validation else [(speaker,) for speaker in fold.train]:
                confusion["clean"] |= self._validate(kernel_UU, validated)["clean"]
            kept = self._count_numbers(kernel_UU)
        self._fitted = confusion, kept, time.perf_counter() - start

    def _validate(self, kernel_UU: NDArray[np.float64], validated: tuple[str, ...]) -> Confusion:
        """Counts of some speakers' utterances, predicted by a fit to the training speakers other than these."""
        data = self.data
        learnt = [speaker for speaker in self.trial.fold.train if speaker not in validated]
        known, others = data.rows(learnt), data.rows(validated)
        predicted = classify(kernel_UU, data.emotion_U, known, others, self.configuration.C)
        noisy = np.zeros(len(others), np.bool_)
        return validation_confusion(
            data.emotion_U[others], predicted, data.speaker_U[others], noisy, len(data.emotions), ("clean",)
        )

    def _count_numbers(self, kernel_UU: NDArray[np.float64]) -> int:
        """The numbers that the machine keeps: its support vectors, their weights, and the thresholds."""
        data = self.data
        known = data.rows(self.trial.fold.train)
        if len(np.unique(data.emotion_U[known])) < 2:
            return 0
        machine = fit(kernel_UU, data.emotion_U, known, self.configuration.C)
        return int(len(machine.support_) * data.dimensions + machine.dual_coef_.size + machine.intercept_.size)

    def checkpoint(self) -> None:
        """Nothing: to fit again costs less than to read a checkpoint."""

    def restore(self, checkpoint: bytes) -> None:
        """There is never a checkpoint."""
        raise AssertionError("a support vector machine has no checkpoints")

    def result(self, stopped: str | None = None) -> Result:
        """The result of the fit."""
        assert self._fitted, "the machine is not fitted"
        confusion, kept, seconds = self._fitted
        return Result(
            trial=self.trial,
            stopped=stopped or "fitted",
            seconds=seconds,
            parameters=kept,
            confusion=confusion,
            environment=environment(processor(), "torch", "scikit-learn"),
        )

    def weights(self) -> None:
        """Nothing is kept: the machine draws nothing at random and is fitted again to the same bits."""

    def load(self, weights: bytes | None) -> None:
        """Nothing to take: `predict` fits."""

    def portable(self, store: Store) -> bytes:
        """Fit to the training speakers, and keep the support vectors and what standardises a new vector."""
        train = sorted(self.trial.fold.train)
        opened = _open_speakers(store, self.trial, train)
        scale: dict[str, NDArray[Any]] = {}
        if not self.configuration.knows_speakers:
            fitted = fit_scale(np.concatenate([opened[speaker].x_UD for speaker in self.trial.fold.train]))
            scale = {"mean": fitted.mean_D, "deviation": fitted.deviation_D, "varies": fitted.varies_D}
            opened = standardise_by_others(opened, self.trial.fold.train)
        data = open_vectors(store, self.trial, train)
        x_UD = np.concatenate([opened[speaker].x_UD for speaker in train])
        with threadpool_limits(1):
            machine = SupportVectors.train(x_UD, data.kernel(self.configuration), data.emotion_U, self.configuration.C)
        tensors = {name: np.ascontiguousarray(value) for name, value in (vars(machine) | scale).items()}
        content: bytes = safetensors.numpy.save(tensors)
        return content

    def predict(self, store: Store, speakers: Sequence[str], condition: Condition) -> Prediction:
        """Fit to the training speakers and predict the clean utterances of others, with their decision values."""
        assert condition == "clean", "support vector machines are trained on clean speech only"
        train = self.trial.fold.train
        data = open_vectors(store, self.trial, (*train, *speakers))
        known, others = data.rows(train), data.rows(speakers)
        with threadpool_limits(1):
            kernel_UU = data.kernel(self.configuration)
            predicted_U, values = decide(kernel_UU, data.emotion_U, known, others, self.configuration.C)
        decision_UE = np.full((len(others), len(data.emotions)), np.nan)
        for emotion, values_U in values.items():
            decision_UE[:, emotion] = values_U
        place = {data.utterance[row]: number for number, row in enumerate(others)}
        order = [place[utterance] for utterance in _clean_utterances(store, speakers)]
        return Prediction(predicted_U[order], decision_UE[order], "decision")


def _clean_utterances(store: Store, speakers: Sequence[str]) -> list[str]:
    """Ids of some speakers' utterances in the order of the store's rows."""
    utterances: list[str] = []
    for speaker in speakers:
        rows = store.table(speaker).select(["utterance", "condition"]).to_pylist()
        utterances += [row["utterance"] for row in rows if row["condition"] == "clean"]
    return utterances
