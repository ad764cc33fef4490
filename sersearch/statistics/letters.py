"""Letters and rank intervals of a table whose rows were all tested against each other.

Shape: K row.
"""

from string import ascii_letters

import numpy as np
from numpy.typing import NDArray

Apart = NDArray[np.bool_]
"""[K, K] whether two rows differ significantly; symmetric, and never on the diagonal."""


def compact_letters(apart_KK: Apart) -> tuple[str, ...]:
    """Give each row its letters: two rows share a letter if and only if they do not differ significantly.

    The letters are found by insertion and absorption. All rows start in one group. Each significant pair splits every
    group that holds both rows into one group without the first row and one without the second. A group that lies within
    another one is dropped. Each group that is left is a letter, `a` being that of the topmost rows.

    Source: Piepho 2004, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons", Journal of
    Computational and Graphical Statistics 13(2).

    Args:
        apart_KK: which rows differ significantly, the best row first.

    Returns:
        [K] letters of each row, in alphabetical order.

    Raises:
        ValueError: the matrix is not square and symmetric, or a row differs from itself.

    Example:
        >>> first_and_last_differ = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
        >>> compact_letters(first_and_last_differ)
        ('a', 'ab', 'b')
    """
    _check(apart_KK)
    rows = range(len(apart_KK))
    groups = [frozenset(rows)]
    for first, second in np.argwhere(np.triu(apart_KK)).tolist():
        groups = _insert(groups, first, second)
    groups.sort(key=sorted)
    return tuple("".join(_letter(number) for number, group in enumerate(groups) if row in group) for row in rows)


def rank_intervals(apart_KK: Apart) -> tuple[tuple[int, int], ...]:
    """Compute the ranks that each row can have, given which rows differ significantly.

    A row's best rank is one more than the number of rows that are significantly above it; its worst rank leaves out the
    rows that are significantly below it. If the family of tests keeps its error rate, all true ranks lie within their
    intervals at the same confidence.

    Source: Klein, Wright & Wieczorek 2020, "A Joint Confidence Region for an Overall Ranking of Populations", Journal
    of the Royal Statistical Society C 69(3).

    Args:
        apart_KK: which rows differ significantly, the best row first.

    Returns:
        [K] best and worst rank of each row, from 1.

    Raises:
        ValueError: the matrix is not square and symmetric, or a row differs from itself.

    Example:
        >>> first_and_last_differ = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
        >>> rank_intervals(first_and_last_differ)
        ((1, 2), (1, 3), (2, 3))
    """
    _check(apart_KK)
    above_K = np.tril(apart_KK).sum(axis=1)
    below_K = np.triu(apart_KK).sum(axis=1)
    rows = len(apart_KK)
    return tuple((1 + above, rows - below) for above, below in zip(above_K.tolist(), below_K.tolist(), strict=True))


def _insert(groups: list[frozenset[int]], first: int, second: int) -> list[frozenset[int]]:
    """Split the groups that hold both rows, and absorb what then lies within another group."""
    whole = [group for group in groups if not (first in group and second in group)]
    split = [group - {row} for group in groups if first in group and second in group for row in (first, second)]
    kept = list(whole)
    # A group that was split lies within another only if it is smaller or equal; larger ones are kept first.
    for group in sorted(split, key=len, reverse=True):
        if not any(group <= other for other in kept):
            kept.append(group)
    return kept


def _letter(number: int) -> str:
    return ascii_letters[number] if number < len(ascii_letters) else f"({number + 1})"


def _check(apart_KK: Apart) -> None:
    square = apart_KK.ndim == 2 and apart_KK.shape[0] == apart_KK.shape[1]
    if not square or np.any(apart_KK != apart_KK.T) or np.any(np.diagonal(apart_KK)):
        raise ValueError(
            f"a matrix of significant pairs of shape {apart_KK.shape}: pass a square, symmetric one, False on its "
            "diagonal"
        )
