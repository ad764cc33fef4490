"""Letters and ranks say what the family of tests says, and nothing else."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sersearch.statistics.letters import compact_letters, rank_intervals


@st.composite
def families(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Any family of significant pairs of one to nine rows."""
    rows = draw(st.integers(1, 9))
    apart = np.zeros((rows, rows), dtype=bool)
    for a, b in combinations(range(rows), 2):
        apart[a, b] = apart[b, a] = draw(st.booleans())
    return apart


@given(families())
def test_two_rows_share_a_letter_if_and_only_if_their_pair_is_not_significant(apart: NDArray[np.bool_]) -> None:
    letters = compact_letters(apart)
    for a, b in combinations(range(len(apart)), 2):
        assert bool(set(letters[a]) & set(letters[b])) is not bool(apart[a, b])
    assert all(letters)


@given(families())
def test_letters_are_the_largest_groups_of_rows_that_do_not_differ(apart: NDArray[np.bool_]) -> None:
    letters = compact_letters(apart)
    groups = {
        frozenset(row for row, of_row in enumerate(letters) if letter in of_row) for letter in set("".join(letters))
    }
    rows = range(len(apart))
    alike = [
        frozenset(group)
        for size in range(1, len(apart) + 1)
        for group in combinations(rows, size)
        if not apart[np.ix_(group, group)].any()
    ]
    assert groups == {group for group in alike if not any(group < other for other in alike)}


@given(families())
def test_ranks_leave_out_only_what_is_significantly_above_or_below(apart: NDArray[np.bool_]) -> None:
    for row, (best, worst) in enumerate(rank_intervals(apart)):
        assert best == 1 + sum(apart[row, other] for other in range(row))
        assert worst == len(apart) - sum(apart[row, other] for other in range(row + 1, len(apart)))
        assert best <= row + 1 <= worst


def test_letters_of_rows_of_which_only_neighbours_are_alike() -> None:
    apart = np.abs(np.subtract.outer(range(5), range(5))) > 1
    assert compact_letters(apart) == ("a", "ab", "bc", "cd", "d")
    assert compact_letters(np.zeros((4, 4), dtype=bool)) == ("a", "a", "a", "a")
    assert compact_letters(~np.eye(60, dtype=bool))[-1] == "(60)"


@pytest.mark.parametrize("apart", [np.zeros((2, 3)), np.array([[0, 1], [0, 0]]), np.eye(2)])
def test_wrong_matrices_are_named(apart: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="square, symmetric"):
        compact_letters(apart.astype(bool))
