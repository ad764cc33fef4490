"""Holm's correction is that of statsmodels; optimism is removed in simulation."""

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from sersearch.statistics.corrections import holm, select_best
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
