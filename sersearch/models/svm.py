"""Support vector machines over one vector per utterance, trained on a precomputed kernel matrix (Sections 4.1 and 6.1).

Vectors are standardised in the same way for all folds, so the products of all utterances are computed once, and each
fold uses a part of the same matrix. Therefore the time of a fit does not depend on the length of the vectors.

Shapes: U utterances, D numbers per vector; V other utterances.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import linear_kernel
from sklearn.svm import SVC

Kernel = Literal["linear", "polynomial", "rbf"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


def standardise(x_UD: NDArray[np.floating], group_U: NDArray[np.generic] | None = None) -> NDArray[np.float64]:
    """Scale each number to mean 0 and standard deviation 1 within each group of utterances.

    A number that is constant within a group becomes 0 there. A number that is not finite becomes 0 and does not count
    for the mean and the deviation.

    Args:
        x_UD: the vectors.
        group_U: the group of each utterance, such as its speaker; without it all utterances are one group.

    Returns:
        [U, D].
    """
    if group_U is None:
        group_U = np.zeros(len(x_UD))
    scaled_UD = np.zeros(x_UD.shape)
    for group in np.unique(group_U):
        rows = group_U == group
        scaled_UD[rows] = standardise_by(x_UD[rows], x_UD[rows])
    return scaled_UD


def standardise_by(x_UD: NDArray[np.floating], fitted_VD: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale each number by its mean and standard deviation over other utterances, such as the training part.

    Args:
        x_UD: the vectors to scale.
        fitted_VD: the vectors whose means and deviations are taken.

    Returns:
        [U, D]; 0 where `standardise` would give 0.
    """
    return fit_scale(fitted_VD).apply(x_UD)


@dataclass(frozen=True)
class Scale:
    """What standardises vectors: mean and standard deviation of each number [D], and whether it varies at all."""

    mean_D: NDArray[np.float64]
    deviation_D: NDArray[np.float64]
    varies_D: NDArray[np.bool_]

    def apply(self, x_UD: NDArray[np.floating]) -> NDArray[np.float64]:
        """Standardise vectors [U, D]; a number that does not vary or is not finite becomes 0."""
        scaled_UD: NDArray[np.float64] = (x_UD - self.mean_D) / np.where(self.varies_D, self.deviation_D, 1.0)
        scaled_UD[:, ~self.varies_D] = 0.0
        return np.where(np.isfinite(scaled_UD), scaled_UD, 0.0)


def fit_scale(by_VD: NDArray[np.floating]) -> Scale:
    """The means and deviations of vectors [V, D] over their finite numbers."""
    finite_VD = np.ma.masked_invalid(by_VD.astype(np.float64))
    mean_D = finite_VD.mean(0).filled(0.0)
    deviation_D = finite_VD.std(0).filled(0.0)
    largest_D = np.abs(finite_VD).max(0).filled(0.0)
    # Rounding errors give a constant a tiny deviation, which must not be divided by.
    return Scale(mean_D, deviation_D, deviation_D > 1e-9 * largest_D)


def kernel_matrix(
    x_UD: NDArray[np.float64], kernel: Kernel, gamma: float = 1.0, degree: int = 3
) -> NDArray[np.float64]:
    """The kernel matrix of standardised vectors.

    With p the mean over the D numbers of the products of two vectors, and s the mean of their squared differences, the
    linear kernel is p, the polynomial one (gamma p)^degree, the RBF one exp(-gamma s).

    scikit-learn has sums instead of these means. With means, the same range of C and gamma suits vectors of any length:
    C corresponds to scikit-learn's C / D in the linear kernel, and gamma to its gamma / D in the other two.

    Args:
        x_UD: the vectors, D at least 1.
        kernel: the kernel's name.
        gamma: factor of the polynomial and the RBF kernel; the linear kernel does not use it.
        degree: degree of the polynomial kernel; the other two do not use it.

    Returns:
        [U, U].
    """
    products_UU: NDArray[np.float64] = linear_kernel(x_UD) / x_UD.shape[1]
    return apply_kernel(products_UU, kernel, gamma, degree)


def apply_kernel(
    products_UU: NDArray[np.float64],
    kernel: Kernel,
    gamma: float = 1.0,
    degree: int = 3,
    squares: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """The kernel matrix of vectors whose mean products are known; see `kernel_matrix`.

    Args:
        products_UU: mean over the D numbers of the products of each two vectors; [U, V] of two kinds of vectors.
        kernel: the kernel's name.
        gamma: factor of the polynomial and the RBF kernel.
        degree: degree of the polynomial kernel.
        squares: mean squares of the vectors of both kinds, [U] and [V]; without them both are the same vectors.

    Returns:
        [U, U], or [U, V].
    """
    # scikit-learn's polynomial_kernel and rbf_kernel start from the vectors: each configuration would compute the
    # products again. Their last bits differ from these, too: they use a power and another order of sums.
    match kernel:
        case "linear":
            return products_UU
        case "polynomial":
            scaled_UU = gamma * products_UU
            power_UU = scaled_UU
            # NumPy's power takes 60 times as long as these products.
            for _ in range(degree - 1):
                power_UU = power_UU * scaled_UU
            return power_UU
        case "rbf":
            rows_U, columns_V = squares or (np.diag(products_UU), np.diag(products_UU))
            distances_UU = rows_U[:, None] + columns_V[None, :] - 2 * products_UU
            # Rounding can make the distance between equal vectors negative.
            kernel_UU: NDArray[np.float64] = np.exp(-gamma * np.maximum(distances_UU, 0.0))
            return kernel_UU


def fit(kernel_UU: NDArray[np.float64], label_U: NDArray[np.int64], train: NDArray[np.int64], C: float) -> SVC:
    """Train an SVM on some utterances, with each class weighted by the inverse of its frequency (Section 6.1).

    Args:
        kernel_UU: kernel matrix of all utterances.
        label_U: class of each utterance.
        train: indices of the utterances to train on. A class that none of them has is never predicted.
        C: penalty of an error, before the weight of its class.
    """
    svm = SVC(C=C, kernel="precomputed", class_weight="balanced", cache_size=500)
    # Taking rows and then columns needs a third of the time of np.ix_.
    return svm.fit(kernel_UU.take(train, 0).take(train, 1), label_U[train])


def classify(
    kernel_UU: NDArray[np.float64],
    label_U: NDArray[np.int64],
    train: NDArray[np.int64],
    others: NDArray[np.int64],
    C: float,
) -> NDArray[np.int64]:
    """Train an SVM on some utterances and predict the classes of others; see `decide`."""
    return decide(kernel_UU, label_U, train, others, C)[0]


def decide(
    kernel_UU: NDArray[np.float64],
    label_U: NDArray[np.int64],
    train: NDArray[np.int64],
    others: NDArray[np.int64],
    C: float,
) -> tuple[NDArray[np.int64], dict[int, NDArray[np.float64]]]:
    """Train an SVM on some utterances and predict the classes of others, with a decision value of each class.

    If all training utterances have the same class, which an SVM cannot be trained on, that class is predicted.

    Args:
        kernel_UU: kernel matrix of all utterances.
        label_U: class of each utterance.
        train: indices of the utterances to train on.
        others: indices of the utterances to predict.
        C: penalty of an error, before the weight of its class.

    Returns:
        The predicted class of each of the others, and their decision values by class, see `one_against_rest`.
    """
    classes = np.unique(label_U[train])
    if len(classes) == 1:
        return np.full(len(others), classes[0]), {int(classes[0]): np.zeros(len(others))}
    svm = fit(kernel_UU, label_U, train, C)
    kernel_UV = kernel_UU[np.ix_(others, train)]
    predicted: NDArray[np.int64] = svm.predict(kernel_UV)
    svm.decision_function_shape = "ovo"
    decision_UP = svm.decision_function(kernel_UV).reshape(len(others), -1)
    if len(classes) == 2:
        # scikit-learn turns the sign of a single pair.
        decision_UP = -decision_UP
    _, values_UK = one_against_rest(decision_UP, len(classes))
    return predicted, dict(zip(classes.tolist(), values_UK.T, strict=True))


def one_against_rest(decision_UP: NDArray[np.float64], classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Make one decision value per class from those of all pairs of classes, as scikit-learn does.

    A class' value is the number of pairs that it wins, plus the sum of its pairs' decisions squashed into (-1/3, 1/3),
    which orders the classes that win as many. The class that libsvm predicts is the first one that wins most pairs, so
    only among classes that win equally many can another one have the largest value.

    Args:
        decision_UP: decisions of the pairs (0, 1), (0, 2), ..., (1, 2), ...; positive where the first class wins.
        classes: K, how many there are.

    Returns:
        The number of the predicted class [U], and the values [U, K].
    """
    votes_UK = np.zeros((len(decision_UP), classes), np.int64)
    sum_UK = np.zeros((len(decision_UP), classes))
    for decision_U, (first, second) in zip(decision_UP.T, combinations(range(classes), 2), strict=True):
        votes_UK[:, first] += decision_U > 0
        votes_UK[:, second] += decision_U <= 0
        sum_UK[:, first] += decision_U
        sum_UK[:, second] -= decision_U
    return votes_UK.argmax(1), votes_UK + sum_UK / (3 * (np.abs(sum_UK) + 1))


@dataclass(frozen=True)
class SupportVectors:
    """A trained machine without its training utterances: V support vectors, K classes, P = K (K - 1) / 2 pairs.

    Attributes:
        vectors_VD: the support vectors, those of the first class first.
        coefficients_CV: [K - 1, V] their weights, as libsvm arranges them: in the decision between the classes i < j, a
            vector of i has weight [j - 1] and one of j has weight [i].
        intercept_P: what is added to each pair's decision.
        count_K: support vectors of each class.
        class_K: the classes.
    """

    vectors_VD: NDArray[np.float64]
    coefficients_CV: NDArray[np.float64]
    intercept_P: NDArray[np.float64]
    count_K: NDArray[np.int64]
    class_K: NDArray[np.int64]

    @classmethod
    def train(
        cls, x_UD: NDArray[np.float64], kernel_UU: NDArray[np.float64], label_U: NDArray[np.int64], C: float
    ) -> Self:
        """Train on all of some utterances, as `fit` does, and keep the support vectors.

        Args:
            x_UD: standardised vectors.
            kernel_UU: their kernel matrix.
            label_U: class of each.
            C: penalty of an error, before the weight of its class.
        """
        class_K = np.unique(label_U)
        if len(class_K) == 1:
            none = np.zeros((0, len(x_UD[0])))
            return cls(none, np.zeros((0, 0)), np.zeros(0), np.zeros(1, np.int64), class_K)
        machine = fit(kernel_UU, label_U, np.arange(len(label_U)), C)
        # scikit-learn turns the sign of a single pair.
        sign = -1.0 if len(class_K) == 2 else 1.0
        return cls(
            vectors_VD=x_UD[machine.support_],
            coefficients_CV=sign * machine.dual_coef_,
            intercept_P=sign * machine.intercept_,
            count_K=machine.n_support_.astype(np.int64),
            class_K=class_K,
        )

    def decide(
        self, x_UD: NDArray[np.float64], kernel: Kernel, gamma: float, degree: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Predict standardised vectors: the class of each [U], and the decision values [U, K] of `class_K`."""
        dimensions = x_UD.shape[1]
        products_UV = x_UD @ self.vectors_VD.T / dimensions
        squares = np.square(x_UD).sum(1) / dimensions, np.square(self.vectors_VD).sum(1) / dimensions
        kernel_UV = apply_kernel(products_UV, kernel, gamma, degree, squares)
        ends = np.cumsum(self.count_K)
        of_class = [slice(end - count, end) for end, count in zip(ends, self.count_K, strict=True)]
        decision_UP = np.zeros((len(x_UD), len(self.intercept_P)))
        for pair, (i, j) in enumerate(combinations(range(len(self.class_K)), 2)):
            first, second = of_class[i], of_class[j]
            decision_UP[:, pair] = self.intercept_P[pair]
            decision_UP[:, pair] += kernel_UV[:, first] @ self.coefficients_CV[j - 1, first]
            decision_UP[:, pair] += kernel_UV[:, second] @ self.coefficients_CV[i, second]
        chosen_U, values_UK = one_against_rest(decision_UP, len(self.class_K))
        return self.class_K[chosen_U], values_UK
