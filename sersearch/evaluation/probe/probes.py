"""What a classifier can read off a representation: emotion as in Table 5, and beyond the paper speaker and gender.

Emotion is asked of a support vector machine across the partition. Speaker and gender are asked of a linear
classifier across folds of the training utterances; it is fitted so fast that a permutation test can fit it anew for
each permutation.

Shapes: U utterances, D numbers of a representation, C classes, P permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from sersearch.evaluation.probe.separability import within_span
from sersearch.models.svm import Kernel, classify, kernel_matrix, standardise, standardise_by
from sersearch.statistics.counts import unweighted_accuracy

Indices = NDArray[np.int64]

# The simpler one first: on a tie on validation it is chosen.
KERNELS: tuple[Kernel, ...] = ("linear", "rbf")
PRICES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)

FOLDS = 5
# Times D, it is added to the scatter of the training utterances in every direction
# (docs/decisions.md#speaker-and-gender-probes).
RIDGE = 0.01
PERMUTATIONS = 499

# Utterances that are predicted together: their kernel must fit into memory.
_TOGETHER = 500


class Rows(Protocol):
    """Representations [U, D]: an array, or a file of which only the requested rows are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """U and D."""

    def __getitem__(self, rows: Indices, /) -> NDArray[np.floating]:
        """Some of them, in the given order."""


@dataclass(frozen=True)
class Chosen:
    """The support vector machine that does best on validation."""

    kernel: Kernel
    C: float
    validation_ua: float


def choose_svm(x_UD: Rows, emotion_U: Indices, train: Indices, validation: Indices) -> Chosen:
    """Choose kernel and C by UA on validation, the numbers standardised by the training utterances.

    Args:
        x_UD: representations.
        emotion_U: classes.
        train: to learn from.
        validation: to choose by.
    """
    rows, learn, ask = _rows(train, validation)
    x = standardise_by(x_UD[rows], x_UD[train])
    label = emotion_U[rows]
    emotions = int(emotion_U.max()) + 1
    found = []
    for kernel in KERNELS:
        kernel_UU = kernel_matrix(x, kernel)
        for C in PRICES:
            predicted = classify(kernel_UU, label, learn, ask, C)
            found.append(Chosen(kernel, C, unweighted_accuracy(label[ask], predicted, emotions)))
    # Equal figures may differ in their last digit.
    return max(found, key=lambda each: round(each.validation_ua, 9))


def predict(x_UD: Rows, emotion_U: Indices, train: Indices, others: Indices, chosen: Chosen) -> Indices:
    """Learn from the training utterances and predict the emotions of others."""
    predicted = []
    for start in range(0, len(others), _TOGETHER):
        rows, learn, ask = _rows(train, others[start : start + _TOGETHER])
        kernel_UU = kernel_matrix(standardise_by(x_UD[rows], x_UD[train]), chosen.kernel)
        predicted.append(classify(kernel_UU, emotion_U[rows], learn, ask, chosen.C))
    return np.concatenate(predicted)


def _rows(train: Indices, others: Indices) -> tuple[Indices, Indices, Indices]:
    both = np.concatenate([train, others])
    return both, np.arange(len(train)), np.arange(len(train), len(both))


def deal(label_U: Indices, folds: int, generator: np.random.Generator) -> Indices:
    """The fold of each unit: those of each label are dealt out as evenly as may be, in random order."""
    order = generator.permutation(len(label_U))
    order = order[np.argsort(label_U[order], kind="stable")]
    fold_U = np.empty(len(label_U), np.int64)
    fold_U[order] = np.arange(len(order)) % folds
    return fold_U


def shuffle(label_U: Indices, stratum_U: NDArray[Any], generator: np.random.Generator) -> NDArray[np.int64]:
    """Labels as they might be if nothing knew of them: [P, U], permuted within each stratum."""
    shuffled_PU = np.tile(label_U, (PERMUTATIONS, 1))
    for stratum in np.unique(stratum_U):
        at = stratum_U == stratum
        shuffled_PU[:, at] = generator.permuted(shuffled_PU[:, at], axis=1)
    return shuffled_PU


def prediction_p(label_U: Indices, predicted_U: Indices, shuffled_PU: NDArray[np.int64]) -> float:
    """P value of predictions that were made without these labels.

    Args:
        label_U: true classes.
        predicted_U: predicted ones.
        shuffled_PU: of `shuffle`.
    """
    classes = int(max(label_U.max(), predicted_U.max())) + 1
    ua = [unweighted_accuracy(labels_U, predicted_U, classes) for labels_U in (label_U, *shuffled_PU)]
    return _p_value(ua)


def cross_validate(
    x_UD: NDArray[np.floating], label_U: Indices, fold_U: Indices, shuffled_PU: NDArray[np.int64]
) -> tuple[Indices, float]:
    """Predict each utterance's class from the other folds, and test that by fitting anew to shuffled labels.

    The class is that whose mean is nearest, where distances are those of the covariance of the utterances learnt from
    and a ridge. For two classes that is Fisher's linear discriminant, one class counting as much as the other.

    Args:
        x_UD: representations.
        label_U: class of each, 0 .. C - 1.
        fold_U: fold of each, never chosen by the representations.
        shuffled_PU: of `shuffle`, with each class as often in each fold as it is.

    Returns:
        The predicted classes [U], and the p value of their UA.
    """
    x_UR = within_span(standardise(x_UD))
    labels_PU = np.vstack([label_U, shuffled_PU])
    predicted_PU = np.empty_like(labels_PU)
    classes = int(label_U.max()) + 1
    for fold in np.unique(fold_U):
        asked = fold_U == fold
        z_UR = _whiten(x_UR, ~asked, RIDGE * x_UD.shape[1])
        for labels_U, predicted_U in zip(labels_PU, predicted_PU, strict=True):
            predicted_U[asked] = _nearest(z_UR[asked], z_UR[~asked], labels_U[~asked], classes)
    pairs = zip(labels_PU, predicted_PU, strict=True)
    ua = [unweighted_accuracy(labels_U, predicted_U, classes) for labels_U, predicted_U in pairs]
    return predicted_PU[0], _p_value(ua)


def _whiten(x_UR: NDArray[np.float64], learnt: NDArray[np.bool_], ridge: float) -> NDArray[np.float64]:
    """Turn and scale the vectors so that those learnt from scatter alike in all directions, but for the ridge."""
    centred = x_UR - x_UR[learnt].mean(0)
    scatter_RR = centred[learnt].T @ centred[learnt] + ridge * np.eye(x_UR.shape[1])
    whitened: NDArray[np.float64] = solve_triangular(cholesky(scatter_RR, lower=True), centred.T, lower=True).T
    return whitened


def _nearest(
    z_AR: NDArray[np.float64], learnt_VR: NDArray[np.float64], label_V: Indices, classes: int
) -> NDArray[np.int64]:
    """The class whose mean among the learnt is nearest; one that none of them has is never answered."""
    member_VC = (label_V[:, None] == np.arange(classes)).astype(np.float64)
    number_C = member_VC.sum(0)
    mean_CR = member_VC.T @ learnt_VR / np.maximum(number_C, 1)[:, None]
    nearness_AC = z_AR @ mean_CR.T - (mean_CR**2).sum(1) / 2
    nearness_AC[:, number_C == 0] = -np.inf
    nearest_A: Indices = nearness_AC.argmax(1)
    return nearest_A


def _p_value(ua: Sequence[float]) -> float:
    """Share of permutations that do as well as the first, which is the one found (Phipson & Smyth 2010)."""
    # As above.
    return float(np.mean(np.array(ua) >= ua[0] - 1e-9))
