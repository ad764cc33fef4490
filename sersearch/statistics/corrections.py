"""Corrections for looking more than once: several tests, and the best of many configurations.

Shapes: C configuration, S speaker, E emotion (true, then predicted), U unit (speaker or fold), M comparison, P flip.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sersearch.statistics.counts import Counts, Floats, check_counts, leave_one_speaker_out, mean_recall

ENUMERATED_UNITS = 13
"""Up to this number of units all joint sign flips are enumerated: 4,096 of them."""

JOINT_FLIPS = 4_095
"""The number of random joint sign flips where not all are enumerated; the flip of nothing is one more."""


@dataclass(frozen=True)
class Selection:
    """The best of C configurations on the validation speakers, and how optimistic its UA is.

    Attributes:
        best: index of the configuration that was selected: that of the best validation UA; on a tie, the first one.
        validation_ua: validation UA of that configuration, in per cent.
        optimism: estimated bias of `validation_ua` in percentage points, upwards; None for a single validation speaker.
    """

    best: int
    validation_ua: float
    optimism: float | None

    @property
    def corrected_ua(self) -> float | None:
        """The validation UA minus the optimism; None for a single validation speaker."""
        return None if self.optimism is None else self.validation_ua - self.optimism


def holm(p_values: ArrayLike) -> Floats:
    """Adjust several p values by Holm's step-down method.

    It keeps the family-wise error at most alpha, whatever the dependence between the tests. With p sorted in
    ascending order, p'_(i) = min(1, max_{j <= i} (m - j + 1) p_(j)). Source: Holm 1979, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2).

    Args:
        p_values: [m] p values of one family of tests; m may be 0.

    Returns:
        [m] adjusted p values in [0, 1], in the order given.

    Raises:
        ValueError: a p value is NaN or outside [0, 1].

    Example:
        >>> holm([0.25, 0.125, 0.5]).tolist()
        [0.5, 0.375, 0.5]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p values {p.tolist()}: each must lie in [0, 1]; leave out comparisons without one")
    order = np.argsort(p, kind="stable")
    hypotheses_left = np.arange(p.size, 0, -1)
    step_down = np.maximum.accumulate(p[order] * hypotheses_left)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, step_down)
    return adjusted


def max_t(shares_UM: Floats, generator: np.random.Generator) -> Floats:
    """Adjust all comparisons of several models jointly, by flipping the signs of whole units.

    If some pairs of models do not differ, flipping the signs of all differences of a unit changes nothing about those
    pairs. Each joint flip therefore draws all differences anew at once, and the largest one shows how far chance takes
    the largest of the family. With |T| sorted in descending order, and T* under a flip,

        p'_(j) = max_{i <= j} share of the flips with max_{l >= i} |T*_(l)| >= |T_(i)|,    T = sum_u d_u.

    It keeps the family-wise error at most alpha for any true pairs among false ones. Holm's correction multiplies the
    smallest possible p value by the number of comparisons; this one leaves it at 2 / 2^U, because differences that
    share models and units are not independent.

    Source: the step-down max-T of Westfall & Young 1993, "Resampling-Based Multiple Testing"; Romano & Wolf 2005,
    "Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing", JASA 100.

    Args:
        shares_UM: [U, M] what each unit contributes to each of M differences, in points.
        generator: source of the random flips; used only beyond 13 units.

    Returns:
        [M] adjusted p values, in the order given.

    Raises:
        ValueError: the array has not two dimensions, or holds no unit.

    Example:
        >>> shares_UM = np.array([[4.0, 1.0], [5.0, -1.0], [4.0, 2.0], [5.0, 0.0], [6.0, 1.0], [5.0, -2.0]])
        >>> max_t(shares_UM, np.random.default_rng(0)).tolist()
        [0.03125, 1.0]
    """
    if shares_UM.ndim != 2 or shares_UM.shape[0] == 0:
        raise ValueError(f"shares of differences have shape {shares_UM.shape}: pass [units, comparisons]")
    if shares_UM.shape[1] == 0:
        return np.empty(0)
    sums_PM = np.abs(joint_flips(len(shares_UM), generator) @ shares_UM)
    order_M = np.argsort(-sums_PM[0], kind="stable")
    # The largest of each comparison and all after it, under each flip.
    largest_PM = np.maximum.accumulate(sums_PM[:, order_M[::-1]], axis=1)[:, ::-1]
    rounding = 1e-9 * np.abs(shares_UM).sum()
    shares_M = np.mean(largest_PM >= largest_PM[0] - rounding, axis=0)
    adjusted: Floats = np.empty_like(shares_M)
    adjusted[order_M] = np.maximum.accumulate(shares_M)
    return adjusted


def joint_flips(units: int, generator: np.random.Generator) -> Floats:
    """List sign flips of some units, the flip of nothing first: all of them, or 4,095 random ones beyond 13 units.

    The first unit's sign stays, because flipping all signs leaves absolute sums unchanged.

    Args:
        units: U, 1 or more.
        generator: source of the random flips.

    Returns:
        [P, U] signs.

    Example:
        >>> joint_flips(2, np.random.default_rng(0)).tolist()
        [[1.0, 1.0], [1.0, -1.0]]
    """
    if units <= ENUMERATED_UNITS:
        number_P = np.arange(2 ** (units - 1))[:, None]
        flipped_PU = (number_P >> np.arange(units)[::-1]) & 1
        return (1 - 2 * flipped_PU).astype(np.float64)
    signs_PU = (1 - 2 * generator.integers(2, size=(1 + JOINT_FLIPS, units))).astype(np.float64)
    signs_PU[0] = 1
    return signs_PU


def select_best(counts_CSEE: Counts, selected: int | None = None) -> Selection:
    """Select the configuration with the best validation UA, and estimate the optimism of quoting that UA.

    The best of C configurations owes its rank partly to which speakers are in the validation part. Let UA_cs be
    configuration c's jackknife pseudo-value for speaker s. The residuals of the additive table c + s show how much
    speakers reorder configurations; pooled over all C they are well estimated even from two speakers. Their share of
    the spread between configurations is the share of the winner's lead that is chance:

        noise = sum_cs residual_cs^2 / ((C - 1) (S - 1) S),    spread = var_c UA_c
        optimism = min(1, noise / spread) * (UA_best - mean_c UA_c)

    This is the empirical-Bayes (James-Stein) correction for selection: Efron & Morris 1975, JASA 70; Efron 2011,
    "Tweedie's Formula and Selection Bias", JASA 106.

    Validation speakers are few (RAVDESS 2, eNTERFACE 4), too few to hold some of them out. In simulation, the
    correction of Tibshirani & Tibshirani (2009, Annals of Applied Statistics 3(2)) leaves half or more of the optimism
    with 2 speakers and overshoots with 8. The bootstrap of BBC-CV over speakers (Tsamardinos, Greasidou &
    Borboudakis 2018, Machine Learning 107) is nearly unbiased, but scatters up to several times as much. This
    correction has the smallest error of the three, except where a few configurations are far above all others.

    It assumes that the configurations are drawn from one population. Call it for each row of the leaderboard
    separately, and trust it less for the trials of an adaptive sampler, which concentrate around the best.

    Args:
        counts_CSEE: [C, S, E, E] confusion counts of each configuration and validation speaker.
        selected: index of the configuration that was selected, if not the best of all was: one of a study that was
            narrowed after all of them were trained.

    Returns:
        The selection; its optimism lies in [0, 100].

    Raises:
        ValueError: counts are not [C, S, E, E], configurations differ in utterances, or a speaker has none.

    Example:
        >>> worse_SEE = [[[2, 2], [2, 2]], [[3, 1], [1, 3]]]
        >>> better_SEE = [[[4, 0], [0, 4]], [[3, 1], [2, 2]]]
        >>> selection = select_best(np.array([worse_SEE, better_SEE]))
        >>> selection.best, selection.validation_ua, selection.corrected_ua
        (1, 81.25, 71.875)
    """
    _check_configurations(counts_CSEE)
    ua_C = mean_recall(counts_CSEE.sum(axis=1))
    best = int(np.argmax(ua_C)) if selected is None else selected
    optimism = _optimism(ua_C, leave_one_speaker_out(counts_CSEE), best)
    return Selection(best, float(ua_C[best]), optimism)


def _check_configurations(counts_CSEE: Counts) -> None:
    if counts_CSEE.ndim != 4 or counts_CSEE.shape[0] == 0:
        raise ValueError(f"counts have shape {counts_CSEE.shape}: pass [configurations, speakers, emotions, emotions]")
    check_counts(counts_CSEE[0])
    support_CSE = counts_CSEE.sum(axis=-1)
    if not np.all(support_CSE == support_CSE[0]):
        raise ValueError(
            "configurations have different utterances per speaker and emotion, but the best can only be selected on "
            "the same: evaluate every one on one validation partition"
        )


def _optimism(ua_C: Floats, leave_one_out_CS: Floats, best: int) -> float | None:
    """Estimate the optimism as `select_best` describes; None for a single speaker."""
    configurations, speakers = leave_one_out_CS.shape
    if configurations == 1:
        return 0.0
    if speakers == 1:
        return None
    pseudo_CS = speakers * ua_C[:, None] - (speakers - 1) * leave_one_out_CS
    residual_CS = pseudo_CS - pseudo_CS.mean(axis=1, keepdims=True) - pseudo_CS.mean(axis=0) + pseudo_CS.mean()
    noise = float((residual_CS**2).sum()) / ((configurations - 1) * (speakers - 1) * speakers)
    spread = float(ua_C.var(ddof=1))
    # Configurations with equal UA show no spread: then all of the lead (which is 0) is chance.
    chance = min(1.0, noise / spread) if spread > 0 else 1.0
    return chance * max(0.0, float(ua_C[best] - ua_C.mean()))
