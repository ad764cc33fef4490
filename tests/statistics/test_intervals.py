"""Intervals are those of scipy where speakers are equal, and cover the truth in simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy import special, stats

from sersearch.statistics.counts import Counts, mean_recall
from sersearch.statistics.intervals import noise_loss, speaker_interval
from tests.statistics.simulation import as_counts, count, draw_models, draw_speakers, population_ua, utterances


@given(utterances.map(count))
def test_interval_holds_the_estimate_and_stays_within_0_and_100(counts: Counts) -> None:
    interval = speaker_interval(counts)
    ua = float(mean_recall(counts.sum(axis=0)))
    if interval is None:
        return
    assert 0 <= interval.low <= ua + 1e-9
    assert ua - 1e-9 <= interval.high <= 100
    assert interval.low < interval.high


def test_interval_is_the_t_interval_of_the_speakers_uas_on_the_logit_scale_if_all_say_as_much() -> None:
    counts = draw_speakers(8, np.random.default_rng(0))
    uas = mean_recall(counts)
    low, high = stats.t.interval(0.95, 7, loc=uas.mean(), scale=stats.sem(uas))
    slope = 100 / (uas.mean() * (100 - uas.mean()))
    centre = special.logit(uas.mean() / 100)
    expected = 100 * special.expit(centre + slope * (np.array([low, high]) - uas.mean()))
    interval = speaker_interval(counts)
    assert interval is not None
    assert [interval.low, interval.high] == pytest.approx(list(expected))


def test_copies_of_utterances_add_no_certainty() -> None:
    counts = draw_speakers(5, np.random.default_rng(1))
    once, copied = speaker_interval(counts), speaker_interval(61 * counts)
    assert once is not None
    assert copied is not None
    assert [copied.low, copied.high] == pytest.approx([once.low, once.high])


@pytest.mark.parametrize("speakers", [1, 5])
def test_no_interval_where_no_spread_can_be_seen(speakers: int) -> None:
    support = np.full((speakers, 3), 4)
    always_first = as_counts(support * [1, 0, 0], support)
    assert speaker_interval(always_first) is None
    assert speaker_interval(as_counts(support, support)) is None


@pytest.mark.parametrize("speakers", [5, 8, 20])
def test_interval_covers_where_the_bootstraps_do_not(speakers: int) -> None:
    generator, truth, repeats = np.random.default_rng(speakers), population_ua(0.4, 0.8), 600
    covered = {"chosen": 0, "utterances": 0, "speakers": 0}
    for _ in range(repeats):
        counts = draw_speakers(speakers, generator)
        interval = speaker_interval(counts)
        covered["chosen"] += interval is None or interval.low <= truth <= interval.high
        for name, uas in bootstraps(counts, generator).items():
            low, high = np.quantile(uas, [0.025, 0.975])
            covered[name] += bool(low <= truth <= high)
    assert 0.93 <= covered["chosen"] / repeats <= 0.98
    assert covered["utterances"] / repeats < 0.75
    assert covered["speakers"] < covered["chosen"]
    if speakers == 5:
        assert covered["speakers"] / repeats < 0.88


def bootstraps(counts: Counts, generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """UA of 400 resamples: of utterances within each emotion, and of speakers."""
    correct, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    total, right = support.sum(axis=0), correct.sum(axis=0)
    drawn = generator.binomial(total, right / total, size=(400, total.size))
    times = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=400)
    return {
        "utterances": 100 * (drawn / total).mean(axis=1),
        "speakers": 100 * ((times @ correct) / (times @ support)).mean(axis=1),
    }


def test_loss_and_its_interval_are_those_of_speakers_losses() -> None:
    generator = np.random.default_rng(6)
    clean, noisy = draw_models([1.5, 0.2], 6, generator)
    losses = mean_recall(clean) - mean_recall(noisy)
    low, high = stats.t.interval(0.95, 5, loc=losses.mean(), scale=stats.sem(losses))
    loss = noise_loss(clean, 20 * noisy)
    assert loss.value == pytest.approx(losses.mean())
    assert loss.interval is not None
    assert [loss.interval.low, loss.interval.high] == pytest.approx([low, high])


COUNTS = draw_speakers(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speaker_interval(COUNTS[0]), r"shape \(6, 6\)"),
        (lambda: speaker_interval(0 * COUNTS), "speaker 0 has no utterance"),
        (lambda: noise_loss(COUNTS, COUNTS[:2]), "same speakers"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
