"""Holm's correction is that of statsmodels; optimism is removed in simulation."""

import gc
from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sersearch.statistics.corrections import holm, max_t, select_best
from sersearch.statistics.counts import mean_recall
from sersearch.statistics.tests import paired_difference
from tests.statistics.simulation import as_counts, draw_configurations, draw_speakers


def test_holm_on_paired_tests_holds_the_family_wise_error_that_single_tests_break() -> None:
    generator, repeats, single, corrected = np.random.default_rng(5), 400, 0, 0
    for _ in range(repeats):
        models = [draw_speakers(10, generator) for _ in range(4)]
        p = [paired_difference(models[i], models[j], generator).p_value for i in range(4) for j in range(i)]
        single += min(p) <= 0.05
        corrected += holm(p).min() <= 0.05
    assert single / repeats > 0.12
    assert corrected / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.fixture(scope="module")
def frozen_objects() -> Iterator[None]:
    """Hide all objects so far from the garbage collector, which statsmodels runs at each call."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_objects")
@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("speakers", [2, 4])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_optimism_estimate_removes_most_of_the_bias_of_the_best(spread: float, speakers: int) -> None:
    generator, optimism, left = np.random.default_rng(10), [], []
    for _ in range(300):
        counts, true = draw_configurations(spread, 40, speakers, generator)
        found = select_best(counts)
        assert found.corrected_ua is not None
        # Which speakers validate moves all configurations alike; taking it out shows the luck of selection alone.
        shift = float(mean_recall(counts.sum(axis=1)).mean() - true.mean())
        optimism.append(found.validation_ua - shift - true[found.best])
        left.append(found.corrected_ua - shift - true[found.best])
    assert np.mean(optimism) > 1
    assert abs(np.mean(left)) < 0.25 * np.mean(optimism)
    assert np.mean(np.square(left)) < np.mean(np.square(optimism))


def test_best_is_the_first_of_equals_and_its_ua_that_of_all_speakers() -> None:
    counts, _ = draw_configurations(0.5, 10, 3, np.random.default_rng(11))
    uas = [float(mean_recall(c.sum(axis=0))) for c in counts]
    found = select_best(np.concatenate([counts, counts]))
    assert found.best == int(np.argmax(uas))
    assert found.validation_ua == pytest.approx(max(uas))


def test_configurations_whose_order_all_speakers_share_are_not_flattered() -> None:
    support = np.full((5, 3, 2), 10)
    correct = np.arange(5)[:, None, None] + np.array([0, 2, 5])[:, None] + 0 * support
    assert select_best(as_counts(correct, support)).optimism == pytest.approx(0, abs=1e-9)


def test_no_choice_is_no_optimism_and_one_speaker_cannot_show_any() -> None:
    counts, _ = draw_configurations(0.5, 4, 3, np.random.default_rng(12))
    assert select_best(counts[:1]).optimism == 0
    alone = select_best(counts[:, :1])
    assert alone.optimism is None
    assert alone.corrected_ua is None


COUNTS = draw_speakers(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm([0.1, float("nan")]), r"\[0, 1\]"),
        (lambda: select_best(COUNTS), "configurations, speakers"),
        (lambda: select_best(np.stack([COUNTS, 2 * COUNTS])), "evaluate every one"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("units", "models"), [(1, 3), (5, 3), (8, 4)])
def test_max_t_is_the_step_down_of_westfall_and_young_over_all_joint_flips(units: int, models: int) -> None:
    generator = np.random.default_rng(units)
    values = generator.normal(size=(units, models)) + 0.5 * np.arange(models)
    shares = np.stack([values[:, i] - values[:, j] for i, j in combinations(range(models), 2)], axis=1)
    found = max_t(shares, generator)
    observed = np.abs(shares.sum(axis=0))
    left, expected, reached = list(range(shares.shape[1])), np.empty(shares.shape[1]), 0.0
    flips = np.array(list(product([1, -1], repeat=units)))
    for comparison in np.argsort(-observed):
        largest = np.abs(flips @ shares[:, left]).max(axis=1)
        reached = max(reached, float(np.mean(largest >= observed[comparison] - 1e-9)))
        expected[comparison] = reached
        left.remove(comparison)
    assert found == pytest.approx(expected)
    assert found.min() >= 2 / 2**units


def test_max_t_by_random_flips_agrees_with_all_of_them_and_with_the_t_test_of_one_pair() -> None:
    generator = np.random.default_rng(6)
    shares = generator.normal(0.4, 1, size=(30, 1))
    (found,) = max_t(shares, generator)
    assert found == pytest.approx(stats.ttest_1samp(shares[:, 0], 0).pvalue, abs=0.02)
    assert max_t(np.empty((3, 0)), generator).shape == (0,)
    with pytest.raises(ValueError, match="units, comparisons"):
        max_t(np.zeros(3), generator)


def test_max_t_keeps_the_family_wise_error_of_true_pairs_among_false_ones() -> None:
    """Eight units, six models: four alike, two far off; Holm's correction of fifteen pairs can't reject at all."""
    generator, false, power = np.random.default_rng(7), 0, 0
    pairs = list(combinations(range(6), 2))
    null = np.array([b < 4 for _, b in pairs])
    for _ in range(600):
        values = generator.normal(size=(8, 6)) + np.array([0, 0, 0, 0, 2.5, -2.5])
        adjusted = max_t(np.stack([values[:, a] - values[:, b] for a, b in pairs], axis=1), generator)
        false += bool(adjusted[null].min() <= 0.05)
        power += bool(adjusted[pairs.index((4, 5))] <= 0.05)
    assert false / 600 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert power / 600 > 0.95
    assert 15 * 2 / 2**8 > 0.05
