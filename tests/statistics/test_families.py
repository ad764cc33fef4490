"""A family of pairs agrees with its parts, and its letters with it."""

from itertools import combinations

import numpy as np
import pytest

from sersearch.statistics.corrections import max_t
from sersearch.statistics.families import all_pairs, apart_matrix, spread_of_values
from sersearch.statistics.intervals import SpeakerStatistic
from sersearch.statistics.letters import compact_letters
from sersearch.statistics.tests import corrected_p, paired_difference
from tests.statistics.simulation import draw_models


def test_every_pair_is_the_paired_test_with_the_joint_correction() -> None:
    generator = np.random.default_rng(0)
    counts = draw_models([0.2, 1.0, 1.6, 0.4], 9, generator)
    models = {number: SpeakerStatistic.of_ua(each) for number, each in enumerate(counts)}
    order = (2, 1, 3, 0)
    pairs = all_pairs({number: models[number] for number in order}, 100, generator, test_to_train=0.25)
    assert [(pair.first, pair.second) for pair in pairs] == list(combinations(order, 2))
    shares = np.stack([(models[a] - models[b]).shares_S for a, b in combinations(order, 2)], axis=1)
    adjusted = max_t(shares, generator)
    for pair, p in zip(pairs, adjusted, strict=True):
        assert pair.comparison == paired_difference(counts[pair.first], counts[pair.second], generator)
        assert pair.adjusted_p == pytest.approx(max(p, pair.comparison.p_value))
        assert pair.bound_p == corrected_p(models[pair.first] - models[pair.second], 0.25)
    apart = apart_matrix(order, pairs)
    assert apart.any()
    letters = compact_letters(apart)
    for pair in pairs:
        shared = set(letters[order.index(pair.first)]) & set(letters[order.index(pair.second)])
        assert bool(shared) is not pair.apart


def test_one_model_has_no_pair_and_no_spread() -> None:
    generator = np.random.default_rng(1)
    (counts,) = draw_models([1.0], 5, generator)
    alone = {3: SpeakerStatistic.of_ua(counts)}
    assert all_pairs(alone, 100, generator, None) == ()
    assert spread_of_values(alone) is None
    assert apart_matrix((3,), ()).tolist() == [[False]]


def test_the_spread_is_half_the_variance_of_differences() -> None:
    generator = np.random.default_rng(2)
    models = dict(enumerate(SpeakerStatistic.of_ua(each) for each in draw_models([0.2, 1.0, 0.6], 40, generator)))
    variances = [((models[a] - models[b]).shares_S * 40).var(ddof=1) for a, b in combinations(range(3), 2)]
    assert spread_of_values(models) == pytest.approx(np.sqrt(np.mean(variances) / 2))
