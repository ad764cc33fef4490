"""Support vector machines over one vector an utterance (Sections 4.1 and 6.1), by their kernel matrix.

Standardisation depends on no fold, so the products of all utterances are computed once and every fold is a part of the
same matrix: a fit costs what its utterances cost, however long their vectors are.

Shapes: U utterances, D numbers each.
"""

from __future__ import annotations

from functools import reduce
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

Kernel = Literal["linear", "polynomial", "rbf"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


def standardise(x_UD: NDArray[np.floating], group_U: NDArray[np.generic] | None = None) -> NDArray[np.float64]:
    """Give each number mean 0 and deviation 1 within each group of utterances, a speaker's say, or over all.

    A number that does not vary within a group tells nothing there, and becomes 0; so does one that is not finite, which
    enters neither mean nor deviation.
    """
    groups = np.zeros(len(x_UD)) if group_U is None else group_U
    scaled = np.zeros(x_UD.shape)
    for group in np.unique(groups):
        rows = groups == group
        scaled[rows] = _scaled(x_UD[rows], x_UD[rows])
    return scaled


def standardise_by(x_UD: NDArray[np.floating], fitted_D: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale by the means and deviations of other utterances [., D]: those of the training part."""
    return _scaled(x_UD, fitted_D)


def _scaled(x_UD: NDArray[np.floating], by_VD: NDArray[np.floating]) -> NDArray[np.float64]:
    by = np.ma.masked_invalid(by_VD.astype(np.float64))
    mean, deviation = by.mean(0).filled(0.0), by.std(0).filled(0.0)
    largest = np.abs(by).max(0).filled(0.0)
    # What is left of a constant after rounding is no deviation.
    varies = deviation > 1e-9 * largest
    scaled: NDArray[np.float64] = (x_UD - mean) / np.where(varies, deviation, 1.0)
    scaled[:, ~varies] = 0.0
    return np.where(np.isfinite(scaled), scaled, 0.0)


def kernel_matrix(
    x_UD: NDArray[np.float64], kernel: Kernel, gamma: float = 1.0, degree: int = 3
) -> NDArray[np.float64]:
    """The kernel [U, U] of standardised vectors.

    Products and squared distances are means over the D numbers, where scikit-learn has sums, so that one range of C
    and gamma serves vectors of any length: a linear kernel's C is this C / D there, the others' gamma this gamma / D.

    Args:
        x_UD: the vectors.
        kernel: p, (gamma p)^degree, or exp(-gamma s), where p is the mean product and s the mean squared distance.
        gamma: see there.
        degree: of the polynomial.
    """
    return apply_kernel(x_UD @ x_UD.T / max(x_UD.shape[1], 1), kernel, gamma, degree)


def apply_kernel(
    products_UU: NDArray[np.float64], kernel: Kernel, gamma: float = 1.0, degree: int = 3
) -> NDArray[np.float64]:
    """`kernel_matrix` where the vectors' mean products [U, U] are known already."""
    match kernel:
        case "linear":
            return products_UU
        case "polynomial":
            # Products, not a power, which takes 60 times as long.
            return reduce(np.multiply, [gamma * products_UU] * degree)
        case "rbf":
            squares = np.diag(products_UU)
            distances = squares[:, None] + squares[None, :] - 2 * products_UU
            found: NDArray[np.float64] = np.exp(-gamma * np.maximum(distances, 0.0))
            return found


def fit(kernel_UU: NDArray[np.float64], label_U: NDArray[np.int64], train: NDArray[np.int64], C: float) -> SVC:
    """Train on some utterances, each class weighted by the inverse of its frequency (Section 6.1).

    Args:
        kernel_UU: of all utterances.
        label_U: class of each.
        train: indices of those to learn from; a class that none of them has is never predicted.
        C: the price of an error.
    """
    svm = SVC(C=C, kernel="precomputed", class_weight="balanced", cache_size=500)
    # Rows and then columns: a third of what np.ix_ takes.
    return svm.fit(kernel_UU.take(train, 0).take(train, 1), label_U[train])


def classify(
    kernel_UU: NDArray[np.float64],
    label_U: NDArray[np.int64],
    train: NDArray[np.int64],
    others: NDArray[np.int64],
    C: float,
) -> NDArray[np.int64]:
    """Train on some utterances and predict the classes of others.

    Where all that is learnt from is one class, that is the answer.
    """
    known = np.unique(label_U[train])
    if len(known) == 1:
        return np.full(len(others), known[0])
    predicted: NDArray[np.int64] = fit(kernel_UU, label_U, train, C).predict(kernel_UU[np.ix_(others, train)])
    return predicted
