"""What a design can show: the power of its tests before anything is trained, by simulation of the tests themselves.

A system's value in a fold is its true value, what all systems of the fold share, and an own error. The shared part
moves no comparison. The own error is normal here, and the tests are those of `contrast` and `corrections.max_t`.

Shapes: N simulated study, U unit (fold, or speaker), K system, M pair, P order or flip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from sersearch.statistics.contrast import level_weights, smallest_p
from sersearch.statistics.counts import Floats

Floats32 = NDArray[np.float32]

LEVEL = 0.05

ENOUGH = 0.8
"""The power at which a design is said to be able to show a difference."""

STUDIES = 1000
"""Simulated studies per power: a standard error of at most 1.6 points."""

DRAWS = 999
"""Random orders or flips per simulated study, beside the one observed."""

_FLIPS = 255
_BISECTIONS = 8


@dataclass(frozen=True)
class Luck:
    """What makes two systems differ in a fold though they are alike, in points of UA or of the loss to noise.

    Attributes:
        training: standard deviation of one network over training seeds.
        speakers: standard deviation over speakers of what one speaker favours in a system.
        ua: UA in per cent, from which the luck of few utterances follows.
    """

    training: float = 2.0
    speakers: float = 2.5
    ua: float = 70.0

    def sd(self, speakers: int, seeds: int, utterances: float) -> float:
        """Compute the standard deviation of a system's value in one fold, what all systems share left out.

        sd^2 = training^2 / seeds + (speakers^2 + ua (100 - ua) / (utterances * seeds)) / speakers of the fold

        Args:
            speakers: test speakers of the fold.
            seeds: networks per system and fold.
            utterances: clean utterances per speaker.

        Returns:
            The standard deviation in points.

        Example:
            >>> round(Luck().sd(speakers=2, seeds=2, utterances=60), 2)
            3.72
        """
        sampling = self.ua * (100 - self.ua) / utterances
        return sqrt(self.training**2 / seeds + (self.speakers**2 + sampling / seeds) / speakers)


def contrast_power(levels: Sequence[int], difference: float, sd: float, units: int, level: float = LEVEL) -> float:
    """Compute the power of `ordered_contrast`, one-sided.

    Args:
        levels: [K] level of each system.
        difference: true difference between the first level and the last, in points; levels are equally far apart.
        sd: standard deviation of a system's value in one unit, from `Luck.sd`.
        units: U.
        level: at which is tested; 0.05 over the number of measures for Holm's correction, whose first step this is.

    Returns:
        The share of simulated studies in which p is at most the level; 0 if no p value can be that small.

    Example:
        >>> contrast_power([0, 1, 1, 2], difference=50, sd=1, units=1)
        0.0
        >>> contrast_power([0, 1, 1, 2], difference=50, sd=1, units=2)
        1.0
    """
    if smallest_p(levels, units) > level:
        return 0.0
    generator = np.random.default_rng(0)
    steps_K = np.asarray(levels, dtype=np.float64)
    true_K = difference * (steps_K - steps_K.min()) / np.ptp(steps_K)
    weights_K = level_weights(levels)
    values_NUK = true_K + sd * generator.standard_normal((STUDIES, units, len(levels)))
    orders_PUK = _orders(weights_K, units, generator)
    rises_NP = values_NUK.reshape(STUDIES, -1) @ orders_PUK.reshape(len(orders_PUK), -1).T
    p_N = np.mean(rises_NP >= rises_NP[:, :1] - 1e-9, axis=1)
    return float(np.mean(p_N <= level))


def pair_power(difference: float, sd: float, units: int, systems: int) -> float:
    """Compute the power of one pair among all pairs of some systems, at 5 % after the max-T correction.

    One system differs from all others, which are alike.

    Args:
        difference: true difference, in points.
        sd: standard deviation of a system's value in one unit.
        units: U.
        systems: K, two or more.

    Returns:
        The share of simulated studies in which the pair is significant; 0 with fewer than six units, whose p values are
        above 0.05 whatever the difference.

    Example:
        >>> pair_power(50, sd=1, units=5, systems=4), pair_power(50, sd=1, units=6, systems=4)
        (0.0, 1.0)
    """
    if 2.0 ** (1 - units) > LEVEL:
        return 0.0
    return _PairStudies(sd, units, systems).power(difference)


def smallest_difference(sd: float, units: int, systems: int) -> float | None:
    """Compute the smallest difference of a pair that is found with 80 % power among all pairs of some systems.

    Args:
        sd: standard deviation of a system's value in one unit.
        units: U.
        systems: K, two or more.

    Returns:
        The difference in points; None with fewer than six units, which show no difference at all.

    Example:
        >>> smallest_difference(sd=3, units=5, systems=4) is None
        True
        >>> 4 < smallest_difference(sd=3, units=12, systems=4) < 6
        True
    """
    if 2.0 ** (1 - units) > LEVEL:
        return None
    studies = _PairStudies(sd, units, systems)
    low, high = 0.0, sd
    while studies.power(high) < ENOUGH:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if studies.power(middle) >= ENOUGH else (middle, high)
    return high


class _PairStudies:
    """Simulated studies in which one system may differ from all others; the same draws for every difference."""

    def __init__(self, sd: float, units: int, systems: int) -> None:
        """Draw the studies."""
        generator = np.random.default_rng(0)
        self._first_M, self._second_M = np.triu_indices(systems, k=1)
        # Few systems are cheap to simulate more often; many take the memory of their pairs.
        studies = min(STUDIES, max(100, 20_000 // len(self._first_M)))
        self._noise_NUK = (sd * generator.standard_normal((studies, units, systems))).astype(np.float32)
        self._signs_PU = _flips(units, generator).astype(np.float32)

    def power(self, difference: float) -> float:
        """Compute how often the first pair is significant if the first system is this much better."""
        values_NUK = self._noise_NUK.copy()
        values_NUK[:, :, 0] += np.float32(difference)
        return float(np.mean([self._first_pair_p(values_UK) <= LEVEL for values_UK in values_NUK]))

    def _first_pair_p(self, values_UK: Floats32) -> float:
        """Compute the p value of the first pair by the step-down of `max_t`."""
        sums_PK = self._signs_PU @ values_UK
        sums_PM = np.abs(sums_PK[:, self._first_M] - sums_PK[:, self._second_M])
        order_M = np.argsort(sums_PM[0])
        largest_PM = np.maximum.accumulate(sums_PM[:, order_M], axis=1)
        shares_M = np.mean(largest_PM >= largest_PM[0] * (1 - 1e-5), axis=0)
        # All pairs that differ more must be significant too.
        place = int(np.flatnonzero(order_M == 0)[0])
        return float(shares_M[place:].max())


def _orders(weights_K: Floats, units: int, generator: np.random.Generator) -> Floats:
    """List orders of the weights within every unit, [P, U, K], the claimed one first: all, or 999 random ones."""
    if factorial(weights_K.size) ** units <= DRAWS:
        orders = list(permutations(weights_K.tolist()))
        return np.array(list(product(orders, repeat=units)))
    claimed_PUK = np.tile(weights_K, (1 + DRAWS, units, 1))
    drawn_PUK = generator.permuted(claimed_PUK, axis=2)
    drawn_PUK[0] = weights_K
    return drawn_PUK


def _flips(units: int, generator: np.random.Generator) -> Floats:
    """List joint sign flips, [P, U], no flip first: all of them, or 255 random ones."""
    if 2 ** (units - 1) <= 1 + _FLIPS:
        return np.array([(1, *signs) for signs in product((1, -1), repeat=units - 1)], dtype=np.float64)
    signs_PU = (1 - 2 * generator.integers(2, size=(1 + _FLIPS, units))).astype(np.float64)
    signs_PU[0] = 1
    return signs_PU
