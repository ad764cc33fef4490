"""Power agrees with the t test's where both are defined, with a plain simulation, and with the audit's designs."""

import numpy as np
import pytest
from scipy import stats

from sersearch.statistics.contrast import ordered_contrast
from sersearch.statistics.corrections import max_t
from sersearch.statistics.power import Luck, contrast_power, pair_power, smallest_difference

RAVDESS, ENTERFACE = Luck(ua=60), Luck(ua=90)


@pytest.mark.parametrize(
    ("luck", "utterances", "folds", "speakers", "seeds", "power"),
    [
        (RAVDESS, 48, 1, 5, 1, 0.06),
        (RAVDESS, 48, 8, 3, 2, 0.64),
        (RAVDESS, 48, 12, 2, 2, 0.70),
        (ENTERFACE, 30, 1, 8, 1, 0.10),
        (ENTERFACE, 30, 14, 3, 1, 0.82),
        (ENTERFACE, 30, 14, 3, 2, 0.96),
    ],
)
def test_designs_have_the_power_of_an_independent_simulation(
    luck: Luck, utterances: int, folds: int, speakers: int, seeds: int, power: float
) -> None:
    """Another program simulated utterances, seeds and speakers: a trend of 1.2 points per step, luck of 2 points."""
    sd = luck.sd(speakers, seeds, utterances)
    assert contrast_power([0, 1, 2, 3], 3.6, sd, folds) == pytest.approx(power, abs=0.06)


def test_power_of_a_contrast_is_how_often_the_contrast_rejects() -> None:
    generator = np.random.default_rng(0)
    rejected = [
        ordered_contrast(2 * generator.normal(size=(5, 3)) + np.arange(3), [0, 1, 2], generator).p_value <= 0.05
        for _ in range(200)
    ]
    predicted = contrast_power([0, 1, 2], 2, 2, 5)
    assert np.mean(rejected) == pytest.approx(predicted, abs=4 * np.sqrt(predicted * (1 - predicted) / 200))


def test_power_of_a_pair_is_how_often_its_family_rejects_it_and_of_two_systems_that_of_the_t_test() -> None:
    generator, rejected = np.random.default_rng(1), []
    for _ in range(300):
        values = generator.normal(size=(8, 3)) + np.array([1.8, 0, 0])
        shares = np.stack([values[:, 0] - values[:, 1], values[:, 0] - values[:, 2], values[:, 1] - values[:, 2]], 1)
        rejected.append(max_t(shares, generator)[0] <= 0.05)
    assert np.mean(rejected) == pytest.approx(pair_power(1.8, 1, 8, 3), abs=0.08)
    effect = 1.2 / np.sqrt(2)
    t = stats.t.ppf(0.975, 19)
    exact = stats.nct.sf(t, 19, effect * np.sqrt(20)) + stats.nct.cdf(-t, 19, effect * np.sqrt(20))
    assert pair_power(1.2, 1, 20, 2) == pytest.approx(exact, abs=0.05)


def test_the_smallest_difference_is_found_in_four_of_five_studies() -> None:
    for units, systems in ((6, 2), (12, 4), (14, 9)):
        difference = smallest_difference(3.0, units, systems)
        assert difference is not None
        assert pair_power(difference, 3.0, units, systems) == pytest.approx(0.8, abs=0.02)
    assert smallest_difference(3.0, 5, 2) is None
    assert pair_power(100, 3.0, 5, 2) == 0


def test_more_seeds_speakers_and_folds_never_lower_the_power() -> None:
    luck = Luck()
    assert luck.sd(2, 2, 60) < luck.sd(2, 1, 60)
    assert luck.sd(4, 1, 60) < luck.sd(2, 1, 60)
    powers = [contrast_power([0, 1, 1, 2], 4, 4, units) for units in (1, 2, 4, 8, 16)]
    assert powers == sorted(powers)
    assert powers[0] == 0
