"""The one comparison that a study names before it is trained: an order of its systems.

Shapes: U unit (fold, or speaker), K system, E emotion (true, then predicted).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial, log

import numpy as np
from scipy import special

from sersearch.statistics.counts import Counts, Floats, mean_recall

ENUMERATED_ORDERS = 100_000
"""Up to this number of orders of the systems within all units, all are enumerated."""

RANDOM_ORDERS = 99_999
"""The number of random orders where not all are enumerated."""

MARGIN = 0.01
"""How far from 0 and 1 a UA is kept on the logit scale."""


@dataclass(frozen=True)
class Contrast:
    """How a measure rises along a claimed order of systems, and the evidence that it does.

    Attributes:
        rise: least-squares rise of the measure per level of the order, in the measure's unit.
        p_value: one-sided p value of `ordered_contrast`.
        smallest_p: the smallest p value that this number of units and this order can give, whatever the rise.
        units: U.
    """

    rise: float
    p_value: float
    smallest_p: float
    units: int


def ordered_contrast(values_UK: Floats, levels: Sequence[int], generator: np.random.Generator) -> Contrast:
    """Test whether a measure rises along an order of systems, in which some may stand on one level.

    The statistic is the least-squares rise per level, averaged over the units,

        rise = 1 / U sum_u sum_k w_k value[u, k],    w_k = (level_k - mean level) / sum_j (level_j - mean level)^2.

    If all systems are alike, the values of a unit may belong to the systems in any order: each draw permutes the
    systems within every unit. If the unit is a fold, all its speakers and training seeds move together, and the luck of
    training moves with them; if it is a speaker, the test is about these trained networks alone. Systems on one level
    are not ordered. All K!^U orders are enumerated up to 100,000. Beyond, 99,999 random ones are drawn, with the +1 of
    Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero".

    Source: Page 1963, "Ordered Hypotheses for Multiple Treatments", JASA 58, here on values instead of ranks.

    Args:
        values_UK: the measure of each system in each unit.
        levels: [K] level of each system, from the one where the measure is claimed to be lowest.
        generator: source of the random orders.

    Returns:
        The contrast.

    Raises:
        ValueError: there is no unit, the numbers of systems differ, or all systems stand on one level.

    Example:
        >>> values_UK = np.array([[1.0, 2.0, 2.5, 4.0], [0.0, 2.0, 1.0, 3.0]])
        >>> contrast = ordered_contrast(values_UK, [0, 1, 1, 2], np.random.default_rng(0))
        >>> contrast.rise, round(contrast.p_value, 5), round(contrast.smallest_p, 5)
        (1.5, 0.00694, 0.00694)
    """
    if values_UK.ndim != 2 or values_UK.shape[0] == 0 or values_UK.shape[1] != len(levels):
        raise ValueError(
            f"values have shape {values_UK.shape} for {len(levels)} levels: pass [units, systems] and one level per "
            "system"
        )
    weights_K = level_weights(levels)
    units, systems = values_UK.shape
    rise = float(values_UK.mean(axis=0) @ weights_K)
    # Sums that are equal may differ by rounding.
    threshold = units * rise - 1e-9 * float(np.abs(values_UK * weights_K).sum())
    if factorial(systems) ** units <= ENUMERATED_ORDERS:
        p_value = float(np.mean(_all_sums(values_UK, weights_K) >= threshold))
    else:
        as_steep = int(np.count_nonzero(_random_sums(values_UK, weights_K, generator) >= threshold))
        p_value = (1 + as_steep) / (1 + RANDOM_ORDERS)
    return Contrast(rise, p_value, smallest_p(levels, units), units)


def level_weights(levels: Sequence[int]) -> Floats:
    """Compute the least-squares weights of an order, by which values are added up to their rise per level.

    Raises:
        ValueError: all systems stand on one level.

    Example:
        >>> level_weights([0, 1, 1, 2]).tolist()
        [-0.5, 0.0, 0.0, 0.5]
    """
    centred_K = np.asarray(levels, dtype=np.float64) - np.mean(levels)
    if not np.any(centred_K):
        raise ValueError(f"levels {list(levels)}: an order needs systems on two levels or more")
    weights_K: Floats = centred_K / (centred_K**2).sum()
    return weights_K


def smallest_p(levels: Sequence[int], units: int) -> float:
    """Compute the smallest p value that an order of systems can give over some units, whatever their values.

    In each unit, the claimed order shares its value with those that exchange systems on one level only.

    Example:
        >>> round(smallest_p([0, 1, 1, 2], units=1), 4), round(smallest_p([0, 1, 2, 3], units=1), 4)
        (0.0833, 0.0417)
    """
    same = np.unique(np.asarray(levels), return_counts=True)[1].tolist()
    log_share = sum(log(factorial(size)) for size in same) - log(factorial(len(levels)))
    enumerated = factorial(len(levels)) ** units <= ENUMERATED_ORDERS
    share = float(np.exp(units * log_share))
    return share if enumerated else max(share, 1 / (1 + RANDOM_ORDERS))


def logit_ua(counts_UEE: Counts) -> Floats:
    """Compute the UA of each unit on the logit scale, on which a step near 0 or 100 % is as large as one near 50 %.

    A UA u, as a share, is moved towards the middle first, so that its logit is finite: logit(0.01 + 0.98 u).

    Args:
        counts_UEE: confusion counts of each unit.

    Returns:
        [U] logits, between -4.6 and 4.6.

    Example:
        >>> logit_ua(np.array([[[3, 1], [1, 3]], [[4, 0], [0, 4]]])).round(2).tolist()
        [1.07, 4.6]
    """
    share_U = MARGIN + (1 - 2 * MARGIN) * mean_recall(counts_UEE) / 100
    return np.asarray(special.logit(share_U))


def _all_sums(values_UK: Floats, weights_K: Floats) -> Floats:
    """Compute the weighted sum of every order of the systems within every unit."""
    sums = np.zeros(1)
    for values_K in values_UK:
        of_unit = np.array([weights_K @ order for order in permutations(values_K.tolist())])
        sums = np.add.outer(sums, of_unit).ravel()
    return sums


def _random_sums(values_UK: Floats, weights_K: Floats, generator: np.random.Generator) -> Floats:
    """Compute the weighted sums of random orders of the systems within every unit."""
    sums = np.zeros(RANDOM_ORDERS)
    for values_K in values_UK:
        copies_of_values = np.tile(values_K, (RANDOM_ORDERS, 1))
        sums += generator.permuted(copies_of_values, axis=1) @ weights_K
    return sums
