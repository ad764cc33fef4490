"""The spread of one configuration's UA over training seeds."""

from dataclasses import dataclass
from math import exp, lgamma, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special, stats

from sersearch.statistics.intervals import Interval


@dataclass(frozen=True)
class SeedSpread:
    """UA of one configuration over training seeds, in per cent.

    Attributes:
        ua: UA of each seed.
        mean: mean UA.
        sd: sample standard deviation; None for one seed.
        interval: t interval of the mean; None for one seed. It covers the randomness of training only, because all
            seeds share their speakers.
        best: UA of the best seed.
        expected_best: expected UA of the best of this number of seeds by chance alone; None for one seed. A `best`
            near it is what repeated tries give; one far above it is an outlier to look into.
    """

    ua: tuple[float, ...]
    mean: float
    sd: float | None
    interval: Interval | None
    best: float
    expected_best: float | None


def seed_spread(ua: ArrayLike) -> SeedSpread:
    """Compute the mean and spread of UA over seeds, and the best UA to be expected by chance.

    expected_best = mean + m_n sd / c4(n), where m_n is the expected maximum of n standard normals (David & Nagaraja
    2003, "Order Statistics") and c4 corrects the bias of the sample standard deviation. Two seeds can't show chance:
    for n = 2, expected_best equals best.

    Args:
        ua: [n] UA in per cent, one per seed.

    Returns:
        The spread; its interval lies within [0, 100].

    Raises:
        ValueError: there is no value, or one outside [0, 100].

    Example:
        >>> spread = seed_spread([60.0, 62.0, 61.0, 65.0])
        >>> round(spread.mean, 2), spread.best, round(spread.expected_best, 2)
        (62.0, 65.0, 64.41)
    """
    ua_n = np.asarray(ua, dtype=np.float64)
    if ua_n.ndim != 1 or ua_n.size == 0 or not np.all((ua_n >= 0) & (ua_n <= 100)):
        raise ValueError(f"UA per seed {ua_n.tolist()}: pass one or more values in [0, 100]")
    n = ua_n.size
    mean = float(ua_n.mean())
    best = float(ua_n.max())
    if n == 1:
        return SeedSpread((mean,), mean, None, None, best, None)
    sd = float(ua_n.std(ddof=1))
    half_width = float(stats.t.ppf(0.975, n - 1)) * sd / sqrt(n)
    interval = Interval(max(0.0, mean - half_width), min(100.0, mean + half_width))
    c4 = sqrt(2 / (n - 1)) * exp(lgamma(n / 2) - lgamma((n - 1) / 2))
    expected_best = mean + expected_maximum(n) * sd / c4
    return SeedSpread(tuple(ua_n.tolist()), mean, sd, interval, best, expected_best)


def expected_maximum(n: int) -> float:
    """Compute the expected maximum of n independent standard normals.

    m_n is the integral of z n phi(z) Phi(z)^(n - 1) over z (David & Nagaraja 2003, "Order Statistics").

    Args:
        n: the number of draws, 1 or more.

    Returns:
        m_n >= 0, up to rounding; it grows with n.

    Raises:
        ValueError: n is below 1.

    Example:
        >>> round(expected_maximum(2), 5), round(expected_maximum(5), 5)
        (0.56419, 1.16296)
    """
    if n < 1:
        raise ValueError(f"n = {n}, but a maximum needs at least one draw: pass 1 or more")

    def integrand(z: float) -> float:
        return z * n * exp(-z * z / 2) / sqrt(2 * pi) * float(special.ndtr(z)) ** (n - 1)

    return float(integrate.quad(integrand, -12, 12, limit=200)[0])
