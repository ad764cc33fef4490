"""The paper's first baseline: a support vector machine over one vector an utterance (Section 6.1). Without Ray.

Clean utterances alone. Each speaker is standardised by its own utterances, which takes no label and no other speaker,
so it leaks nothing and is the same in every fold.

Shapes: U utterances, D numbers each, S speakers, E emotions (true, then predicted).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sersearch.errors import InputError
from sersearch.models.svm import apply_kernel, classify, fit, standardise
from sersearch.run.ledger import Attempt, Epoch, Result
from sersearch.run.run import Run
from sersearch.statistics import mean_recall, speaker_confusions
from sersearch.store.vectors.reader import VectorSet, open_vector_set
from sersearch.study.configuration import SVMConfiguration
from sersearch.study.study import Trial
from sersearch.training.network import environment


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

    def of(self, speakers: Iterable[str]) -> Vectors:
        """Those of some of the speakers."""
        at = np.flatnonzero(np.isin(self.speaker_U, list(speakers)))
        ids = tuple(self.utterance[index] for index in at)
        products = self.products_UU[np.ix_(at, at)]
        return Vectors(products, self.dimensions, self.speaker_U[at], self.emotion_U[at], ids, self.emotions)

    def rows(self, speakers: Iterable[str]) -> NDArray[np.int64]:
        """Where some speakers' utterances are."""
        return np.flatnonzero(np.isin(self.speaker_U, list(speakers)))

    def kernel(self, configuration: SVMConfiguration) -> NDArray[np.float64]:
        """The kernel matrix [U, U] of a configuration."""
        c = configuration
        return apply_kernel(self.products_UU, c.kernel, c.gamma, c.degree)


def make_vectors(functionals: VectorSet, emotions: tuple[str, ...]) -> Vectors:
    """Standardise each speaker's utterances and multiply them, two speakers at a time.

    The bits of two utterances' product depend on nothing but their speakers: neither on who else is there, nor on how
    many threads there are.
    """
    x_UD, speaker_U = functionals.x_UD, np.asarray(functionals.speaker)
    scaled_UD = standardise(x_UD, speaker_U)
    products_UU = np.empty((len(x_UD), len(x_UD)))
    rows = [np.flatnonzero(speaker_U == speaker) for speaker in np.unique(speaker_U)]
    with threadpool_limits(1):
        for a, b in combinations_with_replacement(rows, 2):
            products = scaled_UD[a] @ scaled_UD[b].T / max(x_UD.shape[1], 1)
            products_UU[np.ix_(a, b)] = products
            products_UU[np.ix_(b, a)] = products.T
    return Vectors(
        products_UU, x_UD.shape[1], speaker_U, np.asarray(functionals.emotion), functionals.utterance, emotions
    )


def open_vectors(run: Run, name: str, speakers: Iterable[str]) -> Vectors:
    """Open some speakers' vectors of a set, as SVMs need them; no other speaker's are read.

    Raises:
        InputError: the store does not hold the set that the run began with.
    """
    found = open_vector_set(run.store, name, tuple(speakers))
    if found.digest != run.functionals.get(name, found.digest):
        raise InputError(
            f"{run.store_path}: its functionals {name} are not those that the run {run.path} began with "
            f"({found.digest}, not {run.functionals[name]}): restore them, or name a new run folder"
        )
    return make_vectors(found, run.store.emotions)


def run_svm(trial: Trial, vectors: Vectors, train: Sequence[str], validation: Sequence[str]) -> Result:
    """Train an SVM and say how it does on speakers that it has not seen.

    Of the partition, it learns from the training part and its figures are those of the validation part. Leaving one
    subject out, it learns from all others, and its figures are those of leaving each of these out as well: what it is
    tested on takes no part in its choice.

    Args:
        trial: what to train.
        vectors: of all speakers that it may see; the held-out speaker and the test part are not among them.
        train: speakers of the partition's training part.
        validation: of its validation part.
    """
    configuration = trial.configuration
    assert isinstance(configuration, SVMConfiguration)
    start = time.perf_counter()
    with threadpool_limits(1):
        kernel_UU = vectors.kernel(configuration)
        speakers = tuple(np.unique(vectors.speaker_U).tolist())
        learnt = speakers if configuration.protocol == "loso" else tuple(train)
        asked = speakers if configuration.protocol == "loso" else tuple(validation)
        assert trial.held_out not in speakers
        confusion: dict[str, list[list[int]]] = {}
        for fold in ((speaker,) for speaker in asked) if configuration.protocol == "loso" else (asked,):
            known, others = vectors.rows(set(learnt) - set(fold)), vectors.rows(fold)
            predicted = classify(kernel_UU, vectors.emotion_U, known, others, configuration.C)
            counts_SEE = speaker_confusions(
                vectors.emotion_U[others], predicted, vectors.speaker_U[others], len(vectors.emotions)
            )
            confusion.update(zip(sorted(fold), counts_SEE.tolist(), strict=True))
        kept = _kept(kernel_UU, vectors, vectors.rows(learnt), configuration.C)
    ua = float(mean_recall(np.sum(list(confusion.values()), axis=0)))
    return Result(
        trial=trial,
        epochs=(Epoch(1, None, None, None, ua, time.perf_counter() - start),),
        best=0,
        stopped="fitted",
        parameters=kept,
        confusion={"clean": confusion},
        weights="",
        environment=environment("cpu") | {"scikit-learn": version("scikit-learn")},
    )


def _kept(kernel_UU: NDArray[np.float64], vectors: Vectors, known: NDArray[np.int64], C: float) -> int:
    """The numbers that a machine keeps: its support vectors, their weights, and the thresholds."""
    if len(np.unique(vectors.emotion_U[known])) < 2:
        return 0
    machine = fit(kernel_UU, vectors.emotion_U, known, C)
    return int(len(machine.support_) * vectors.dimensions + machine.dual_coef_.size + machine.intercept_.size)


def train_svm(attempt: Attempt, vectors: Vectors, train: Sequence[str], validation: Sequence[str]) -> Result:
    """`run_svm`, its result committed."""
    result = run_svm(attempt.trial, vectors, train, validation)
    attempt.commit(result, None)
    return result


def predict_svm(
    configuration: SVMConfiguration, vectors: Vectors, train: Sequence[str]
) -> tuple[Vectors, NDArray[np.int64]]:
    """Fit an SVM again and predict the speakers that it did not learn from.

    Args:
        configuration: of the winner.
        vectors: of the speakers to learn from, and of those to be tested.
        train: the speakers to learn from.

    Returns:
        The tested utterances, and the indices of the emotions predicted.
    """
    known = vectors.rows(train)
    others = np.setdiff1d(np.arange(len(vectors.utterance)), known)
    with threadpool_limits(1):
        predicted = classify(vectors.kernel(configuration), vectors.emotion_U, known, others, configuration.C)
    tested = np.unique(vectors.speaker_U[others]).tolist()
    return vectors.of(tested), predicted
