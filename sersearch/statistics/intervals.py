"""Confidence intervals over speakers, by the jackknife.

UA, a difference of UAs and a loss to noise are all sums and differences of UAs. `SpeakerStatistic` represents any of
them by two vectors over speakers.

The unit may also be a fold, whose counts are the sum over its speakers. The networks of another fold were trained anew,
so the spread over folds contains the luck of training, and that over speakers does not.

Shapes: S speaker (or fold), E emotion (true, then predicted).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np
from scipy import special, stats

from sersearch.statistics.counts import Counts, Floats, check_counts, leave_one_speaker_out, speaker_shares


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, in per cent or percentage points."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """An estimated value with its interval over speakers.

    Attributes:
        value: the estimate, in percentage points.
        interval: jackknife-t interval; None for one speaker, or if leaving out any speaker changes nothing.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class SpeakerStatistic:
    """A statistic over speakers, or over folds: a UA, or a sum or difference of UAs.

    Attributes:
        shares_S: [S] the points that each speaker contributes; they sum to the statistic. Tests permute them.
        leave_one_out_S: [S] the statistic without each speaker, NaN for a single speaker. Intervals use its spread.
    """

    shares_S: Floats
    leave_one_out_S: Floats

    @classmethod
    def of_ua(cls, counts_SEE: Counts) -> Self:
        """Represent a UA.

        Raises:
            ValueError: counts are not [S, E, E], or a speaker has no utterance.
        """
        check_counts(counts_SEE)
        return cls(speaker_shares(counts_SEE), leave_one_speaker_out(counts_SEE))

    @classmethod
    def of_noise_loss(cls, clean_SEE: Counts, noisy_SEE: Counts) -> Self:
        """Represent a loss to noise: UA clean minus UA noisy.

        Raises:
            ValueError: the numbers of speakers or emotions differ, or a speaker has no utterance.
        """
        if clean_SEE.shape != noisy_SEE.shape:
            raise ValueError(
                f"clean counts have shape {clean_SEE.shape} and noisy counts {noisy_SEE.shape}, but a loss needs the "
                "same speakers and emotions: evaluate both conditions on one test partition"
            )
        return cls.of_ua(clean_SEE) - cls.of_ua(noisy_SEE)

    def __sub__(self, other: Self) -> Self:
        """Represent the difference of two statistics over the same speakers."""
        return type(self)(self.shares_S - other.shares_S, self.leave_one_out_S - other.leave_one_out_S)

    @property
    def value(self) -> float:
        """The statistic itself, in per cent or percentage points."""
        return float(self.shares_S.sum())

    def standard_error(self) -> float | None:
        """Compute the jackknife's standard error; None for one speaker, or if all agree exactly."""
        speakers = self.shares_S.size
        if speakers == 1:
            return None
        squared_deviations = float(((self.leave_one_out_S - self.value) ** 2).sum())
        standard_error = sqrt((speakers - 1) / speakers * squared_deviations)
        # Below this limit all speakers agree exactly, and only rounding errors remain.
        return standard_error if standard_error > 1e-9 else None

    def half_width(self) -> float | None:
        """Compute half the width of the 95 % jackknife-t interval; None without a spread to estimate it from."""
        standard_error = self.standard_error()
        if standard_error is None:
            return None
        return float(stats.t.ppf(0.975, self.shares_S.size - 1)) * standard_error

    def interval(self, limit: float) -> Interval | None:
        """Compute the symmetric jackknife-t interval, cut off at -limit and limit."""
        half_width = self.half_width()
        if half_width is None:
            return None
        return Interval(max(-limit, self.value - half_width), min(limit, self.value + half_width))


def speaker_interval(counts_SEE: Counts) -> Interval | None:
    """Compute the 95 % interval of UA over speakers: the delete-one-speaker jackknife-t on the logit scale.

    With UA_(-s) the UA without speaker s and t the quantile of Student's t with S - 1 degrees of freedom,

        se^2 = (S - 1) / S * sum_s (UA_(-s) - UA)^2
        interval = expit(logit(UA) -+ t se / (UA (1 - UA)))

    Test speakers are usually few (RAVDESS 5, eNTERFACE 8). A percentile bootstrap then covers far less than 95 %, even
    if it resamples speakers (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The American
    Statistician 69(4), on narrowness bias). In simulation, this interval covered 94 to 96 % for 5 to 50 speakers, also
    near 100 % accuracy, and 92 to 94 % for speakers with unequal numbers of utterances. For 5 speakers, bootstrap-t
    needs intervals half as wide again for the same coverage. The interval uses no random numbers and stays within
    [0, 100].

    Sources: Tukey 1958 for the jackknife; Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference",
    J. Human Resources 50(2), for t with S - 1 degrees of freedom; MacKinnon, Nielsen & Webb 2023, J. Econometrics
    232(2), for the jackknife with unequal clusters.

    Args:
        counts_SEE: [S, E, E] confusion counts per speaker, from `speaker_confusions`.

    Returns:
        The interval within [0, 100]. None for one speaker, and if leaving out any speaker changes nothing, because
        there is no spread to estimate from (a model that always predicts one emotion, or is never wrong).

    Raises:
        ValueError: counts are not [S, E, E], or a speaker has no utterance.

    Example:
        >>> counts_SEE = np.array([[[8, 2], [3, 7]], [[9, 1], [2, 8]], [[6, 4], [4, 6]]])
        >>> interval = speaker_interval(counts_SEE)
        >>> round(interval.low, 1), round(interval.high, 1)
        (35.7, 93.2)
    """
    ua = SpeakerStatistic.of_ua(counts_SEE)
    half_width = ua.half_width()
    if half_width is None:
        return None
    proportion = ua.value / 100
    # The delta method carries the half width over to the logit scale.
    logit_half_width = half_width / 100 / (proportion * (1 - proportion))
    low, high = special.expit(special.logit(proportion) + np.array([-logit_half_width, logit_half_width]))
    return Interval(100 * float(low), 100 * float(high))


def recipe_interval(folds_FEE: Counts) -> Interval | None:
    """Compute the 95 % interval of UA for a recipe that is trained again and tested on new speakers.

    It is `speaker_interval` with folds for units: the delete-one-fold jackknife-t on F - 1 degrees of freedom. In each
    fold, the networks were trained anew, on other speakers, with other initial weights, so the spread over folds holds
    speakers and the luck of training together. Folds share most of their training speakers, which this interval can't
    see (Bengio & Grandvalet 2004, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 5).

    Args:
        folds_FEE: [F, E, E] confusion counts per fold, all its speakers and training seeds together.

    Returns:
        The interval within [0, 100]. None for one fold, and if all folds agree exactly.

    Raises:
        ValueError: counts are not [F, E, E], or a fold has no utterance.

    Example:
        >>> folds_FEE = np.array([[[8, 2], [3, 7]], [[9, 1], [2, 8]], [[6, 4], [4, 6]]])
        >>> recipe_interval(folds_FEE) == speaker_interval(folds_FEE)
        True
    """
    return speaker_interval(folds_FEE)


def noise_loss(clean_SEE: Counts, noisy_SEE: Counts) -> Estimate:
    """Compute what noise costs a model: UA clean minus UA noisy, with a jackknife-t interval over speakers.

    The standard error and its sources are those of `speaker_interval`, without the logit.

    Args:
        clean_SEE: [S, E, E] counts under the clean condition.
        noisy_SEE: [S, E, E] counts under the noisy condition, with the same speakers in the same order.

    Returns:
        The loss in percentage points; the value and its interval lie within [-100, 100].

    Raises:
        ValueError: the numbers of speakers or emotions differ, or a speaker has no utterance.

    Example:
        >>> clean_SEE = np.array([[[4, 0], [0, 4]], [[4, 0], [0, 4]], [[4, 0], [2, 2]]])
        >>> noisy_SEE = np.array([[[2, 2], [0, 4]], [[3, 1], [1, 3]], [[4, 0], [3, 1]]])
        >>> loss = noise_loss(clean_SEE, noisy_SEE)
        >>> round(loss.value, 2), round(loss.interval.low, 1), round(loss.interval.high, 1)
        (20.83, 2.9, 38.8)
    """
    loss = SpeakerStatistic.of_noise_loss(clean_SEE, noisy_SEE)
    return Estimate(loss.value, loss.interval(limit=100))
