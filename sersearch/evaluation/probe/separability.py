"""How well classes are parted in a representation, as a number and as a picture (Section 7.5, eq. 15-17).

Shapes: U utterances, D numbers of a representation, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from sersearch.models.svm import standardise

# This many times the mean variance over the directions is added to each direction's variance within classes
# (docs/decisions.md#lda-pictures).
SHRINKAGE = 1.0


@dataclass(frozen=True)
class Inertia:
    """Mean squared distances, the paper's omega_i and omega_o, and rho.

    Attributes:
        intra: from a class's members to its centre, mean over classes (eq. 15).
        inter: between the centres of two classes, mean over pairs (eq. 16).
    """

    intra: float
    inter: float

    @property
    def rho(self) -> float | None:
        """Intra over inter (eq. 17), the smaller the better parted; None where all centres coincide."""
        return self.intra / self.inter if self.inter > 0 else None


def inertia(p_UD: NDArray[np.floating], class_U: NDArray[np.int64]) -> Inertia:
    """Inertia of the representations themselves, neither scaled nor projected.

    Args:
        p_UD: representations.
        class_U: class of each, 0 .. C - 1, C at least 2 and none empty.
    """
    p = p_UD.astype(np.float64)
    classes = np.unique(class_U)
    centre_CD = np.stack([p[class_U == each].mean(0) for each in classes])
    spread_C = [
        ((p[class_U == each] - centre) ** 2).sum(1).mean() for each, centre in zip(classes, centre_CD, strict=True)
    ]
    squares = ((centre_CD[:, None] - centre_CD[None]) ** 2).sum(2)
    return Inertia(float(np.mean(spread_C)), float(squares.sum() / (len(classes) ** 2 - len(classes))))


def project(x_UD: NDArray[np.floating], class_U: NDArray[np.int64]) -> NDArray[np.float64]:
    """The plane in which classes lie furthest apart: [U, min(C - 1, 2)], by linear discriminant analysis.

    A class's prior is its share of the utterances, as in the paper; the numbers are standardised, and the covariance
    within classes is shrunk.

    Args:
        x_UD: representations.
        class_U: class of each, C at least 2.

    Returns:
        The plane; zeros where the representation is the same for all utterances, or has too few numbers.
    """
    classes = np.unique(class_U)
    x_UR = within_span(standardise(x_UD))
    dimensions = x_UR.shape[1]
    plane_UK = np.zeros((len(x_UR), min(len(classes) - 1, 2)))
    if not x_UR.any():
        return plane_UK
    centre_UR = np.zeros_like(x_UR)
    for each in classes:
        centre_UR[class_U == each] = x_UR[class_U == each].mean(0)
    # Standardised numbers have mean 0.
    between_RR = centre_UR.T @ centre_UR / len(x_UR)
    within_RR = (x_UR - centre_UR).T @ (x_UR - centre_UR) / len(x_UR)
    within_RR += SHRINKAGE * (x_UR**2).sum() / x_UR.size * np.eye(dimensions)
    components = min(plane_UK.shape[1], dimensions)
    last = (dimensions - components, dimensions - 1)
    axes_RK = eigh(between_RR, within_RR, subset_by_index=last)[1][:, ::-1]
    plane_UK[:, :components] = x_UR @ axes_RK
    return plane_UK


def within_span(x_UD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same vectors, turned into the space that they span: [U, min(U, D)]; lengths and angles stay."""
    if len(x_UD) >= x_UD.shape[1]:
        return x_UD
    turned: NDArray[np.float64] = np.linalg.qr(x_UD.T).R.T
    return turned
