"""Tests of models against each other are exact, and hold their level in simulation."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from sersearch.statistics.counts import mean_recall
from sersearch.statistics.intervals import SpeakerStatistic, noise_loss
from sersearch.statistics.tests import corrected_p, loss_difference, paired_difference
from tests.statistics.simulation import as_counts, draw_models, draw_speakers, population_ua, shares


@pytest.mark.parametrize("speakers", [2, 5, 9])
def test_paired_p_is_that_of_swapping_predictions_and_of_scipy(speakers: int) -> None:
    generator = np.random.default_rng(speakers)
    a, b = draw_speakers(speakers, generator, 0.8), draw_speakers(speakers, generator)
    result = paired_difference(a, b, generator)
    swapped = []
    for swap in product([False, True], repeat=speakers):
        keep = np.array(swap)[:, None, None]
        one, other = np.where(keep, b, a).sum(axis=0), np.where(keep, a, b).sum(axis=0)
        swapped.append(float(mean_recall(one) - mean_recall(other)))
    assert result.difference == pytest.approx(swapped[0])
    assert result.p_value == pytest.approx(np.mean(np.abs(swapped) >= abs(swapped[0]) - 1e-9))
    d = shares(a, b)
    oracle = stats.permutation_test(
        (d, np.zeros(speakers)),
        lambda x, y: float((x - y).sum()),
        permutation_type="samples",
        vectorized=False,
        n_resamples=2**speakers,
    )
    assert result.p_value == pytest.approx(oracle.pvalue)


def test_random_flips_beyond_twenty_speakers_agree_with_the_exact_distribution() -> None:
    generator = np.random.default_rng(0)
    a, b = draw_speakers(42, generator, 0.75), draw_speakers(42, generator)
    result = paired_difference(a, b, np.random.default_rng(1))
    answers = np.diagonal(a - b, axis1=1, axis2=2).sum(axis=1)
    reach = int(np.abs(answers).sum())
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1
    for more in answers:
        chances = (np.roll(chances, more) + np.roll(chances, -more)) / 2
    as_far = np.abs(np.arange(-reach, reach + 1)) >= abs(answers.sum())
    assert result.p_value == pytest.approx(chances[as_far].sum(), abs=0.005)
    assert result == paired_difference(a, b, np.random.default_rng(1))
    assert result.smallest_p == pytest.approx(1e-5)


def test_five_speakers_cannot_tell_models_apart_whatever_the_difference() -> None:
    support = np.full((5, 6), 10)
    result = paired_difference(as_counts(support, support), as_counts(0 * support, support), np.random.default_rng())
    assert result.difference == 100
    assert result.p_value == result.smallest_p == 0.0625
    assert result.speakers == 5


def test_a_model_against_itself_and_one_speaker_prove_nothing() -> None:
    generator = np.random.default_rng(0)
    a = draw_speakers(7, generator)
    same = paired_difference(a, a, generator)
    assert (same.difference, same.interval, same.p_value) == (0, None, 1)
    single = paired_difference(a[:1], draw_speakers(1, generator), generator)
    assert (single.interval, single.p_value, single.smallest_p) == (None, 1, 1)


def test_paired_interval_is_the_t_interval_of_speakers_differences_and_changes_sign_with_the_order() -> None:
    generator = np.random.default_rng(3)
    a, b = draw_speakers(8, generator), draw_speakers(8, generator)
    differences = mean_recall(a) - mean_recall(b)
    low, high = stats.t.interval(0.95, 7, loc=differences.mean(), scale=stats.sem(differences))
    there, back = paired_difference(a, b, generator), paired_difference(b, a, generator)
    assert there.interval is not None
    assert back.interval is not None
    assert [there.interval.low, there.interval.high] == pytest.approx([low, high])
    assert [back.interval.low, back.interval.high] == pytest.approx([-high, -low])


def test_paired_interval_covers_the_difference() -> None:
    generator, repeats, covered = np.random.default_rng(4), 600, 0
    truth = population_ua(0.9, 0.8) - population_ua(0.4, 0.8)
    for _ in range(repeats):
        a, b = draw_speakers(5, generator, 0.9), draw_speakers(5, generator)
        interval = paired_difference(a, b, generator).interval
        covered += interval is None or interval.low <= truth <= interval.high
    assert 0.93 <= covered / repeats <= 0.98


def test_loss_difference_is_the_difference_of_losses_and_its_p_swaps_both_conditions() -> None:
    generator = np.random.default_rng(7)
    clean, noisy = draw_models([1.5, 1.5], 6, generator), draw_models([0.1, 0.9], 6, generator)
    result = loss_difference((clean[0], noisy[0]), (clean[1], noisy[1]), generator)
    losses = [noise_loss(c, n).value for c, n in zip(clean, noisy, strict=True)]
    assert result.difference == pytest.approx(losses[0] - losses[1])
    d = shares(clean[0], clean[1]) - shares(noisy[0], noisy[1])
    sums = [abs(float(np.dot(signs, d))) for signs in product([-1, 1], repeat=6)]
    assert result.p_value == pytest.approx(np.mean(np.array(sums) >= sums[-1] - 1e-9))


def test_corrected_p_is_nadeaus_and_bengios_t_test_of_folds_of_equal_size() -> None:
    generator = np.random.default_rng(8)
    a, b = draw_speakers(6, generator, 0.9), draw_speakers(6, generator)
    difference = SpeakerStatistic.of_ua(a) - SpeakerStatistic.of_ua(b)
    d = mean_recall(a) - mean_recall(b)
    plain = stats.ttest_1samp(d, 0)
    assert corrected_p(difference, test_to_train=0) == pytest.approx(plain.pvalue)
    t = d.mean() / np.sqrt((1 / 6 + 1 / 4) * d.var(ddof=1))
    assert corrected_p(difference, test_to_train=1 / 4) == pytest.approx(2 * stats.t.sf(abs(t), 5))
    assert corrected_p(difference - difference, test_to_train=1 / 4) is None


COUNTS = draw_speakers(3, np.random.default_rng(0))
GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference(COUNTS, 2 * COUNTS, GENERATOR), "same: evaluate both"),
        (lambda: paired_difference(COUNTS, COUNTS[:2], GENERATOR), "same: evaluate both"),
        (lambda: loss_difference((COUNTS, COUNTS), (COUNTS, 2 * COUNTS), GENERATOR), "same: evaluate both"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
