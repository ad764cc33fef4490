"""The contrast counts every order within every unit, and holds its level where speakers of a fold share a network."""

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from sersearch.statistics.contrast import level_weights, logit_ua, ordered_contrast, smallest_p
from sersearch.statistics.counts import mean_recall
from tests.statistics.simulation import draw_speakers


@pytest.mark.parametrize(("units", "levels"), [(1, [0, 1, 1, 2]), (3, [0, 1, 2]), (3, [0, 1, 1, 2]), (2, [2, 0, 1, 1])])
def test_p_is_the_share_of_all_orders_that_rise_as_steeply(units: int, levels: list[int]) -> None:
    generator = np.random.default_rng(units)
    values = generator.normal(size=(units, len(levels))) + 0.5 * np.array(levels)
    found = ordered_contrast(values, levels, generator)
    slopes = [
        np.polyfit(levels, np.mean([values[u, list(order)] for u, order in enumerate(orders)], axis=0), 1)[0]
        for orders in product(permutations(range(len(levels))), repeat=units)
    ]
    assert found.rise == pytest.approx(slopes[0])
    assert found.p_value == pytest.approx(np.mean(np.array(slopes) >= slopes[0] - 1e-9))
    steepest = np.tile(np.array(levels, float), (units, 1))
    assert ordered_contrast(steepest, levels, generator).p_value == pytest.approx(found.smallest_p)


@pytest.mark.parametrize("units", [3, 9])
def test_on_ranks_it_is_pages_test(units: int) -> None:
    generator = np.random.default_rng(units)
    ranks = stats.rankdata(generator.normal(size=(units, 4)) + 0.3 * np.arange(4), axis=1)
    found = ordered_contrast(ranks, range(4), generator)
    page = stats.page_trend_test(ranks, ranked=True, method="exact")
    assert found.p_value == pytest.approx(page.pvalue, abs=1e-9 if units == 3 else 0.005)


def test_systems_on_one_level_may_be_exchanged() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(3, 4))
    there = ordered_contrast(values, [0, 1, 1, 2], generator)
    assert there == ordered_contrast(values[:, [0, 2, 1, 3]], [0, 1, 1, 2], generator)
    back = ordered_contrast(-values, [2, 1, 1, 0], generator)
    assert (back.rise, back.p_value) == pytest.approx((there.rise, there.p_value))


def test_one_partition_cannot_show_the_papers_order() -> None:
    assert smallest_p([0, 1, 1, 2], 1) == pytest.approx(1 / 12)
    assert smallest_p([0, 1, 1, 2], 2) == pytest.approx(1 / 144)
    assert smallest_p([0, 1, 1, 2], 40) == 1e-5
    assert level_weights([0, 1, 2]).tolist() == [-0.5, 0, 0.5]


def test_folds_hold_the_level_that_speakers_break_where_training_luck_is_shared() -> None:
    """Six folds of four speakers; each network is off by 0.15 (about 3 points) for all its speakers."""
    generator, by_fold, by_speaker = np.random.default_rng(2), 0, 0
    for _ in range(300):
        luck = 0.15 * np.repeat(generator.normal(size=(6, 1, 4)), 4, axis=1)
        values = luck + 0.1 * generator.normal(size=(6, 4, 4))
        folds, speakers = values.mean(axis=1), values.reshape(24, 4)
        by_fold += _quick(folds, generator)
        by_speaker += _quick(speakers, generator)
    assert by_fold / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert by_speaker / 300 > 0.12


def _quick(values: NDArray[np.float64], generator: np.random.Generator) -> bool:
    """The contrast's decision by the normal approximation of its permutation distribution."""
    weights = level_weights([0, 1, 1, 2])
    rise, squares = values.sum(axis=0) @ weights, values.var(axis=1, ddof=1).sum() * (weights**2).sum()
    return bool(rise > stats.norm.ppf(0.95) * np.sqrt(squares))


def test_logits_are_those_of_a_ua_that_is_kept_off_the_ends() -> None:
    counts = draw_speakers(5, np.random.default_rng(3))
    expected = special.logit(0.01 + 0.98 * mean_recall(counts) / 100)
    assert logit_ua(counts) == pytest.approx(expected)
    assert np.isfinite(logit_ua(np.array([[[5, 0], [0, 5]], [[0, 5], [5, 0]]]))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ordered_contrast(np.zeros((2, 3)), [0, 1], np.random.default_rng(0)), "one level per system"),
        (lambda: ordered_contrast(np.zeros((0, 2)), [0, 1], np.random.default_rng(0)), "one level per system"),
        (lambda: ordered_contrast(np.zeros((2, 2)), [1, 1], np.random.default_rng(0)), "two levels or more"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
