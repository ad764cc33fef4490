"""How much of a winner's figure is luck: the best of many configurations, the best of several seeds.

Shapes: C configuration, S speaker, E emotion (true, then predicted).
"""

from dataclasses import dataclass
from math import exp, lgamma, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, ndimage, special, stats

from sersearch.errors import InputError
from sersearch.statistics.comparison import Interval
from sersearch.statistics.confusion import Counts, Floats, check_counts, mean_recall, without_each_speaker


@dataclass(frozen=True)
class Selection:
    """The best of C configurations on the validation speakers, and how much of its UA is luck.

    Attributes:
        best: index of the configuration with the best validation UA, the first of equals.
        validation_ua: its validation UA.
        optimism: estimated points by which that flatters it; None with a single validation speaker.
    """

    best: int
    validation_ua: float
    optimism: float | None

    @property
    def corrected_ua(self) -> float | None:
        """Validation UA less the optimism."""
        return None if self.optimism is None else self.validation_ua - self.optimism


@dataclass(frozen=True)
class SeedSpread:
    """UA of one configuration over training seeds; sd, interval and expected_best are None for one seed.

    Attributes:
        ua: of each seed.
        mean: mean UA.
        sd: sample standard deviation.
        interval: t interval of the mean, for the luck of training alone: all seeds share their speakers.
        best: the best seed's UA.
        expected_best: what the best of as many seeds comes to by luck. A `best` near it gains on the mean by
            repeated tries and nothing else; one far above it is an outlier to look into.
    """

    ua: tuple[float, ...]
    mean: float
    sd: float | None
    interval: Interval | None
    best: float
    expected_best: float | None


def select_best(counts_CSEE: Counts) -> Selection:
    """The configuration with the best validation UA, and the optimism of quoting the UA it was chosen by.

    Among C configurations the best owes its rank partly to which speakers happened to validate. Let UA_cs be
    configuration c's jackknife pseudo-value for speaker s. The residual of the additive table c + s shows how
    much speakers reorder configurations; pooled over all C it is well estimated even from two speakers. Its
    share of the spread between configurations is the share of the winner's lead that is luck:

        noise = sum_cs residual_cs^2 / ((C - 1) (S - 1) S),    spread = var_c UA_c
        optimism = min(1, noise / spread) * (UA_best - mean_c UA_c)

    This is the empirical-Bayes (James-Stein) correction for selection: Efron & Morris 1975, JASA 70; Efron
    2011, "Tweedie's Formula and Selection Bias", JASA 106.

    Validation speakers are few (RAVDESS 2, eNTERFACE 4), too few to hold some of them out. In simulation, the
    correction of Tibshirani & Tibshirani (2009, Annals of Applied Statistics 3(2)) leaves half or more of the
    optimism with 2 speakers and overshoots with 8; the bootstrap of BBC-CV over speakers (Tsamardinos,
    Greasidou & Borboudakis 2018, Machine Learning 107) is nearly unbiased but scatters up to several times as
    far. This one errs least of the three, except where a few stand far above a crowd. It takes configurations
    for draws from one population: call it for each row of the leaderboard apart, and trust it less for an
    adaptive sampler's trials, which crowd around the best.

    Args:
        counts_CSEE: [C, S, E, E] confusion counts of each configuration on each validation speaker.

    Raises:
        InputError: counts are not [C, S, E, E], configurations differ in utterances, or a speaker has none.
    """
    _check_configurations(counts_CSEE)
    ua_C = mean_recall(counts_CSEE.sum(axis=1))
    best = int(np.argmax(ua_C))
    return Selection(best, float(ua_C[best]), _optimism(ua_C, without_each_speaker(counts_CSEE)))


def seed_spread(ua: ArrayLike) -> SeedSpread:
    """Mean and spread of one configuration's UA over seeds, and whether its best seed was just lucky.

    expected_best = mean + m_n sd / c4(n), where m_n is the expected maximum of n standard normals (David &
    Nagaraja 2003, "Order Statistics") and c4 undoes the bias of the sample standard deviation. Two seeds
    can't show luck: for n = 2 expected_best is the best.

    Args:
        ua: [n] UA in per cent, one per seed.

    Raises:
        InputError: no value, or one outside [0, 100].

    Example:
        >>> spread = seed_spread([60.0, 62.0, 61.0, 65.0])
        >>> round(spread.mean, 2), spread.best, round(spread.expected_best, 2)
        (62.0, 65.0, 64.41)
    """
    values = np.asarray(ua, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.all((values >= 0) & (values <= 100)):
        raise InputError(f"UA per seed {values.tolist()}: pass one or more values in [0, 100]")
    n, mean, best = values.size, float(values.mean()), float(values.max())
    if n == 1:
        return SeedSpread((mean,), mean, None, None, best, None)
    sd = float(values.std(ddof=1))
    half_width = float(stats.t.ppf(0.975, n - 1)) * sd / sqrt(n)
    interval = Interval(max(0.0, mean - half_width), min(100.0, mean + half_width))
    c4 = sqrt(2 / (n - 1)) * exp(lgamma(n / 2) - lgamma((n - 1) / 2))
    return SeedSpread(tuple(values.tolist()), mean, sd, interval, best, mean + expected_maximum(n) * sd / c4)


def expected_maximum(n: int) -> float:
    """Expected maximum of n independent standard normals: the integral of z n phi(z) Phi(z)^(n - 1).

    Raises:
        InputError: n is below 1.

    Example:
        >>> round(expected_maximum(2), 5), round(expected_maximum(5), 5)
        (0.56419, 1.16296)
    """
    if n < 1:
        raise InputError(f"n = {n}: no draws have no maximum; pass 1 or more")

    def weighted(z: float) -> float:
        return z * n * exp(-z * z / 2) / sqrt(2 * pi) * float(special.ndtr(z)) ** (n - 1)

    return float(integrate.quad(weighted, -12, 12, limit=200)[0])


def median_filter(values: ArrayLike, window: int) -> Floats:
    """Running median of a curve, as in Figure 2 (UA against h1); the end values continue beyond the ends.

    Raises:
        InputError: the window is even or below 1.

    Example:
        >>> median_filter([50, 90, 52, 54, 10], window=3).tolist()
        [50.0, 52.0, 54.0, 52.0, 10.0]
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"median window {window}: it must be odd and positive to have a middle; pass 3, 5 or 7")
    return ndimage.median_filter(np.asarray(values, dtype=np.float64), size=window, mode="nearest")


def _check_configurations(counts_CSEE: Counts) -> None:
    if counts_CSEE.ndim != 4 or counts_CSEE.shape[0] == 0:
        raise InputError(f"counts have shape {counts_CSEE.shape}: pass [configurations, speakers, emotions, emotions]")
    check_counts(counts_CSEE[0])
    support_CSE = counts_CSEE.sum(axis=-1)
    if not np.all(support_CSE == support_CSE[0]):
        raise InputError(
            "configurations have different utterances per speaker and emotion: the best needs the same for "
            "all; evaluate every one on one validation partition"
        )


def _optimism(ua_C: Floats, without_CS: Floats) -> float | None:
    configurations, speakers = without_CS.shape
    if configurations == 1:
        return 0.0
    if speakers == 1:
        return None
    pseudo_CS = speakers * ua_C[:, None] - (speakers - 1) * without_CS
    residual_CS = pseudo_CS - pseudo_CS.mean(axis=1, keepdims=True) - pseudo_CS.mean(axis=0) + pseudo_CS.mean()
    noise = float((residual_CS**2).sum()) / ((configurations - 1) * (speakers - 1) * speakers)
    spread = float(ua_C.var(ddof=1))
    luck = min(1.0, noise / spread) if spread > 0 else 1.0
    return luck * float(ua_C.max() - ua_C.mean())
