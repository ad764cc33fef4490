"""The spread over seeds is that of numpy and scipy."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sersearch.statistics.seeds import SeedSpread, expected_maximum, seed_spread


def test_seed_spread_is_that_of_numpy_and_scipy() -> None:
    ua = [61.2, 58.4, 63.0, 60.5, 59.9]
    spread = seed_spread(ua)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(ua), scale=stats.sem(ua))
    assert (spread.mean, spread.sd, spread.best) == pytest.approx((np.mean(ua), np.std(ua, ddof=1), 63.0))
    assert spread.interval is not None
    assert (spread.interval.low, spread.interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_expected_best_is_unbiased(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(60, 2, (2000, seeds))
    gap = [(s := seed_spread(d)).best - (s.expected_best or 0) for d in draws]
    assert np.mean(gap) == pytest.approx(0, abs=4 * np.std(gap) / np.sqrt(len(gap)) + 1e-9)


def test_expected_maximum_is_the_mean_of_maxima() -> None:
    draws = np.random.default_rng(0).normal(size=(100_000, 12)).max(axis=1)
    assert expected_maximum(12) == pytest.approx(draws.mean(), abs=0.01)
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(3) == pytest.approx(1.5 / np.sqrt(np.pi))


def test_a_single_seed_has_no_spread() -> None:
    assert seed_spread([60.0]) == SeedSpread((60.0,), 60.0, None, None, 60.0, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_spread([]), "one or more values"),
        (lambda: seed_spread([101.0]), r"\[0, 100\]"),
        (lambda: expected_maximum(0), "1 or more"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
