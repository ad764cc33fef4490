"""All models of a table against each other, as one family of tests.

Shapes: S speaker (or fold), K model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sersearch.statistics.corrections import max_t
from sersearch.statistics.intervals import SpeakerStatistic
from sersearch.statistics.letters import Apart
from sersearch.statistics.tests import Comparison, compare_with_zero, corrected_p

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """One model against another.

    Attributes:
        first: number of the one, the better where they are ranked.
        second: number of the other.
        comparison: first minus second.
        adjusted_p: the p value after the max-T correction for all pairs of the family.
        bound_p: over folds, the uncorrected p value of Nadeau and Bengio's conservative t test; None over speakers.
    """

    first: int
    second: int
    comparison: Comparison
    adjusted_p: float
    bound_p: float | None

    @property
    def apart(self) -> bool:
        """Whether the difference is significant at 5 %."""
        return self.adjusted_p <= LEVEL


def all_pairs(
    models: Mapping[int, SpeakerStatistic], limit: float, generator: np.random.Generator, test_to_train: float | None
) -> tuple[Pair, ...]:
    """Test each model against each other one, and correct for all pairs jointly.

    Args:
        models: each model's statistic over the same units, by number, in the order of the table.
        limit: a difference lies within [-limit, limit].
        generator: source of the random flips.
        test_to_train: test speakers per training speaker of a fold, for the conservative bound; None over speakers.

    Returns:
        The pairs; the first of a pair stands above the second.

    Example:
        >>> shares = {7: [4.0, 5.0, 6.0, 5.0, 4.0, 6.0], 3: [1.0, 2.0, 1.0, 2.0, 3.0, 1.0]}
        >>> models = {n: SpeakerStatistic(np.array(s), (sum(s) - np.array(s)) * 6 / 5) for n, s in shares.items()}
        >>> (pair,) = all_pairs(models, 100, np.random.default_rng(0), test_to_train=None)
        >>> pair.first, pair.second, pair.comparison.difference, pair.adjusted_p, pair.apart
        (7, 3, 20.0, 0.03125, True)
    """
    numbers = list(combinations(models, 2))
    if not numbers:
        return ()
    differences = [models[first] - models[second] for first, second in numbers]
    adjusted = max_t(np.stack([difference.shares_S for difference in differences], axis=1), generator).tolist()
    pairs = []
    for (first, second), difference, p in zip(numbers, differences, adjusted, strict=True):
        comparison = compare_with_zero(difference, limit, generator)
        bound = None if test_to_train is None else corrected_p(difference, test_to_train)
        # Random flips may put the p value of the family below that of the pair alone.
        pairs.append(Pair(first, second, comparison, max(p, comparison.p_value), bound))
    return tuple(pairs)


def apart_matrix(order: tuple[int, ...], pairs: tuple[Pair, ...]) -> Apart:
    """Say which models differ significantly, as letters and rank intervals need it.

    Args:
        order: numbers of the K models, the best first.
        pairs: all pairs of them.

    Returns:
        [K, K] in that order.

    Example:
        >>> models = {n: SpeakerStatistic(np.full(6, n), np.full(6, 6.0 * n)) for n in (9, 4)}
        >>> pairs = all_pairs(models, 100, np.random.default_rng(0), test_to_train=None)
        >>> apart_matrix((9, 4), pairs).tolist()
        [[False, True], [True, False]]
    """
    place = {number: row for row, number in enumerate(order)}
    apart_KK = np.zeros((len(order), len(order)), dtype=np.bool_)
    for pair in pairs:
        first, second = place[pair.first], place[pair.second]
        apart_KK[first, second] = apart_KK[second, first] = pair.apart
    return apart_KK


def spread_of_values(models: Mapping[int, SpeakerStatistic]) -> float | None:
    """Estimate the standard deviation of one model's value in one unit, what units share taken out.

    It is the residual of the additive table model + unit; differences between two models vary by sqrt(2) times it.

    Returns:
        The standard deviation in points; None for one model or one unit.

    Example:
        >>> models = {n: SpeakerStatistic(np.array(s), np.zeros(2)) for n, s in enumerate([[20.0, 30.0], [10.0, 30.0]])}
        >>> spread_of_values(models)
        10.0
    """
    values_SK = np.stack([model.shares_S * model.shares_S.size for model in models.values()], axis=1)
    units, systems = values_SK.shape
    if units == 1 or systems == 1:
        return None
    residual_SK = values_SK - values_SK.mean(axis=0) - values_SK.mean(axis=1, keepdims=True) + values_SK.mean()
    return float(np.sqrt((residual_SK**2).sum() / ((units - 1) * (systems - 1))))
