"""Smoothing of curves for figures."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from sersearch.statistics.counts import Floats


def median_filter(values: ArrayLike, window: int) -> Floats:
    """Compute the running median of a curve, as in Figure 2 (UA against h1).

    The median at i is that of values i - (window - 1) / 2 .. i + (window - 1) / 2. The first and the last value are
    repeated beyond the ends.

    Args:
        values: [n] points of the curve.
        window: number of points per median; odd.

    Returns:
        [n] medians, within the range of the values.

    Raises:
        ValueError: the window is even or below 1.

    Example:
        >>> median_filter([50, 90, 52, 54, 10], window=3).tolist()
        [50.0, 52.0, 54.0, 52.0, 10.0]
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"median window {window}: it must be odd and positive; pass 3, 5 or 7")
    return ndimage.median_filter(np.asarray(values, dtype=np.float64), size=window, mode="nearest")
