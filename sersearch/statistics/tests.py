"""Tests of one model against another, over speakers, or over folds.

Shapes: S speaker (or fold), E emotion (true, then predicted).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

from sersearch.statistics.counts import Counts, Floats, check_same_utterances
from sersearch.statistics.intervals import Interval, SpeakerStatistic

ENUMERATED_SPEAKERS = 20
"""Up to this number of speakers, all sign flips are enumerated: 2^19 sums take 4 MB and milliseconds."""

RANDOM_DRAWS = 99_999
"""The number of random sign flips where not all are enumerated."""


@dataclass(frozen=True)
class Comparison:
    """A difference between two models, in percentage points, and the evidence for it.

    The interval assumes that the speakers' differences are about normal, the test only that they are symmetric. With
    few speakers the interval may exclude zero although the test does not reject: then rely on the test.

    Attributes:
        difference: first model minus second.
        interval: jackknife-t interval over speakers; None for one speaker, or if all speakers differ exactly alike.
        p_value: two-sided p value of the speaker-level sign-flip test, not corrected for multiple tests (see
            `sersearch.statistics.corrections.holm`).
        smallest_p: the smallest p value that this number of speakers can give, whatever the difference: 2 / 2^S, which
            is 0.0625 for 5. Above 0.05 the models can't be told apart at that level. Among m comparisons, Holm's
            correction can reject only if m * smallest_p <= 0.05.
        speakers: S, the number of speakers.
    """

    difference: float
    interval: Interval | None
    p_value: float
    smallest_p: float
    speakers: int


def paired_difference(a_SEE: Counts, b_SEE: Counts, generator: np.random.Generator) -> Comparison:
    """Test UA of model a minus UA of model b on the same utterances, over speakers.

    If the models are alike, it is exchangeable which of them made all the predictions of a speaker. Swapping the two
    changes the sign of that speaker's share of the difference,

        d_s = 100 / E * sum_e (correct_a[s, e] - correct_b[s, e]) / utterances[e].

    Because UA_a - UA_b = sum_s d_s, flipping signs in that sum is the swap test of UA itself, which is exact for any
    number of speakers. Studentising would change no p value, because sum_s d_s^2 is the same under all flips. Up to 20
    speakers all 2^S flips are enumerated. Beyond, 99,999 random flips are drawn, with the +1 of Phipson & Smyth 2010,
    "Permutation P-values Should Never Be Zero".

    Source: Canay, Romano & Shaikh 2017, "Randomization Tests under an Approximate Symmetry Assumption", Econometrica
    85(3), for sign changes with few clusters.

    Args:
        a_SEE: [S, E, E] counts of model a, from `speaker_confusions`.
        b_SEE: [S, E, E] counts of model b, with the same speakers in the same order.
        generator: source of the random flips; used only beyond 20 speakers.

    Returns:
        The comparison; its difference and interval lie within [-100, 100].

    Raises:
        ValueError: the two models were not counted on the same utterances of the same speakers.

    Example:
        >>> a_SEE = np.array([[[4, 0], [0, 4]], [[4, 0], [1, 3]], [[3, 1], [0, 4]]])
        >>> b_SEE = np.array([[[2, 2], [0, 4]], [[3, 1], [1, 3]], [[2, 2], [2, 2]]])
        >>> comparison = paired_difference(a_SEE, b_SEE, np.random.default_rng(0))
        >>> round(comparison.difference, 2), comparison.p_value, comparison.smallest_p
        (25.0, 0.25, 0.25)
    """
    check_same_utterances(a_SEE, b_SEE)
    difference = SpeakerStatistic.of_ua(a_SEE) - SpeakerStatistic.of_ua(b_SEE)
    return compare_with_zero(difference, 100, generator)


def loss_difference(a: tuple[Counts, Counts], b: tuple[Counts, Counts], generator: np.random.Generator) -> Comparison:
    """Test the noise loss of model a minus that of model b, over speakers.

    The test is that of `paired_difference`. A flip swaps the two models' predictions for a whole speaker, clean and
    noisy together.

    Args:
        a: model a's counts [S, E, E], clean and noisy.
        b: model b's counts [S, E, E], clean and noisy, with the same speakers in the same order.
        generator: source of the random flips; used only beyond 20 speakers.

    Returns:
        The comparison; its difference and interval lie within [-200, 200].

    Raises:
        ValueError: within a condition, the two models were not counted on the same utterances of the same speakers.

    Example:
        >>> clean_SEE = np.array([[[4, 0], [0, 4]], [[4, 0], [0, 4]]])
        >>> a_noisy_SEE = np.array([[[2, 2], [0, 4]], [[2, 2], [2, 2]]])
        >>> b_noisy_SEE = np.array([[[4, 0], [0, 4]], [[3, 1], [0, 4]]])
        >>> comparison = loss_difference((clean_SEE, a_noisy_SEE), (clean_SEE, b_noisy_SEE), np.random.default_rng(0))
        >>> round(comparison.difference, 2), comparison.p_value
        (31.25, 0.5)
    """
    check_same_utterances(a[0], b[0])
    check_same_utterances(a[1], b[1])
    difference = SpeakerStatistic.of_noise_loss(*a) - SpeakerStatistic.of_noise_loss(*b)
    return compare_with_zero(difference, 200, generator)


def corrected_p(difference: SpeakerStatistic, test_to_train: float) -> float | None:
    """Compute the two-sided p value of the corrected resampled t test over folds, the conservative bound.

    Folds learn from nearly the same speakers, so their differences are not independent, as the sign flips take them to
    be. With s^2 the variance of the F folds' differences, the correction replaces s^2 / F by

        (1 / F + test / train) s^2,

    and refers difference / sqrt(...) to Student's t on F - 1 degrees of freedom.

    Source: Nadeau & Bengio 2003, "Inference for the Generalization Error", Machine Learning 52.

    Args:
        difference: over folds.
        test_to_train: test speakers per training speaker of a fold.

    Returns:
        The p value; None for one fold, or if all folds differ exactly alike.

    Example:
        >>> a_FEE = np.array([[[8, 2], [3, 7]], [[9, 1], [2, 8]], [[7, 3], [1, 9]]])
        >>> b_FEE = np.array([[[6, 4], [5, 5]], [[6, 4], [2, 8]], [[6, 4], [4, 6]]])
        >>> difference = SpeakerStatistic.of_ua(a_FEE) - SpeakerStatistic.of_ua(b_FEE)
        >>> round(corrected_p(difference, test_to_train=1), 3)
        0.032
    """
    standard_error = difference.standard_error()
    if standard_error is None:
        return None
    folds = difference.shares_S.size
    t = difference.value / (standard_error * sqrt(1 + folds * test_to_train))
    return float(2 * stats.t.sf(abs(t), folds - 1))


def compare_with_zero(difference: SpeakerStatistic, limit: float, generator: np.random.Generator) -> Comparison:
    """Test whether a difference is zero, as `paired_difference` and `loss_difference` do.

    Args:
        difference: over speakers, or over folds.
        limit: the difference lies within [-limit, limit].
        generator: source of the random flips; used only beyond 20 units.

    Returns:
        The comparison.

    Example:
        >>> difference = SpeakerStatistic(np.array([2.0, 1.0, 2.0]), np.array([4.5, 6.0, 4.5]))
        >>> compare_with_zero(difference, 100, np.random.default_rng(0)).p_value
        0.25
    """
    speakers = difference.shares_S.size
    if speakers <= ENUMERATED_SPEAKERS:
        p_value = _enumerated_sign_flip_p(difference.shares_S)
        smallest_p = 2.0 ** (1 - speakers)
    else:
        p_value = _random_sign_flip_p(difference.shares_S, generator)
        smallest_p = 1 / (1 + RANDOM_DRAWS)
    return Comparison(difference.value, difference.interval(limit), p_value, smallest_p, speakers)


def _enumerated_sign_flip_p(shares_S: Floats) -> float:
    """Compute the share of all sign flips whose sum is at least as far from zero as the observed one."""
    # Flipping all signs leaves the absolute sum unchanged, so the first speaker's sign can stay.
    sums = shares_S[:1]
    for share in shares_S[1:]:
        sums = np.concatenate([sums + share, sums - share])
    return float(np.mean(np.abs(sums) >= _smallest_extreme(shares_S)))


def _random_sign_flip_p(shares_S: Floats, generator: np.random.Generator) -> float:
    """Estimate the p value of `_enumerated_sign_flip_p` from random flips."""
    signs = 2.0 * generator.integers(2, size=(RANDOM_DRAWS, shares_S.size), dtype=np.int8) - 1
    as_extreme = int(np.count_nonzero(np.abs(signs @ shares_S) >= _smallest_extreme(shares_S)))
    return (1 + as_extreme) / (1 + RANDOM_DRAWS)


def _smallest_extreme(shares_S: Floats) -> float:
    """Compute the smallest absolute sum that counts as at least as extreme as the observed one."""
    return abs(float(shares_S.sum())) - _rounding_tolerance(shares_S)


def _rounding_tolerance(shares: Floats) -> float:
    """Compute the difference that rounding can cause between sums that are equal."""
    return 1e-9 * float(np.abs(shares).sum())
