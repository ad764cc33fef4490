"""The median filter is the median of each window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.statistics.curves import median_filter


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.sampled_from([1, 3, 5, 7]))
def test_median_filter_is_the_median_of_each_window(values: list[float], window: int) -> None:
    continued = np.pad(values, window // 2, mode="edge")
    literal = [np.median(continued[i : i + window]) for i in range(len(values))]
    assert median_filter(values, window).tolist() == literal


@pytest.mark.parametrize("window", [0, 4])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"median window {window}: it must be odd"):
        median_filter([1, 2], window)
