"""Oracles for every number, and simulations for what is claimed of intervals, tests and corrections."""

import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats
from sklearn import metrics
from statsmodels.stats.multitest import multipletests

from sersearch import statistics
from sersearch.errors import InputError
from sersearch.statistics import Counts

EMOTIONS = 4
labels = st.integers(0, EMOTIONS - 1)
utterances = st.lists(st.tuples(labels, labels, st.sampled_from("abcdef")), min_size=1, max_size=60)


def count(rows: list[tuple[int, int, str]]) -> Counts:
    y, predicted, speakers = zip(*rows, strict=True)
    return statistics.speaker_confusions(y, predicted, speakers, EMOTIONS)


def as_counts(correct: NDArray[Any], said: NDArray[Any]) -> Counts:
    """Correct answers of [..., E] on the diagonal, errors beside it."""
    emotion = np.arange(said.shape[-1])
    counts = np.zeros((*said.shape, said.shape[-1]), dtype=np.int64)
    counts[..., emotion, emotion] = correct
    counts[..., emotion, (emotion + 1) % said.shape[-1]] = said - correct
    return counts


def draw_speakers(speakers: int, generator: np.random.Generator, logit: float = 0.4, sd: float = 0.8) -> Counts:
    """Counts [S, E, E] of speakers who differ, five utterances in a cell."""
    logits = logit + generator.normal(0, sd, (speakers, 1)) + generator.normal(0, sd / 2, (speakers, 6))
    correct = generator.binomial(5, special.expit(logits))
    return as_counts(correct, np.full(correct.shape, 5))


def population_ua(logit: float, sd: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(100 * special.expit(logit + sd * np.sqrt(1.25) * nodes) @ weights / weights.sum())


@given(utterances)
def test_accuracies_are_those_of_scikit_learn(rows: list[tuple[int, int, str]]) -> None:
    y, predicted, _ = zip(*rows, strict=True)
    present = sorted(set(y))
    confusion = statistics.confusion_matrix(y, predicted, EMOTIONS)
    assert np.array_equal(confusion, metrics.confusion_matrix(y, predicted, labels=range(EMOTIONS)))
    recall = metrics.recall_score(y, predicted, labels=present, average=None, zero_division=0)
    assert statistics.recalls(confusion)[present] == pytest.approx(100 * recall)
    assert np.isnan(np.delete(statistics.recalls(confusion), present)).all()
    assert statistics.unweighted_accuracy(y, predicted, EMOTIONS) == pytest.approx(100 * np.mean(recall))


@given(utterances)
def test_speakers_counts_add_up_in_any_order_of_utterances(rows: list[tuple[int, int, str]]) -> None:
    counts = count(rows)
    y, predicted, speakers = zip(*rows, strict=True)
    assert np.array_equal(counts, count(rows[::-1]))
    assert np.array_equal(counts.sum(axis=0), statistics.confusion_matrix(y, predicted, EMOTIONS))
    first = [row for row in rows if row[2] == min(speakers)]
    assert np.array_equal(counts[0], count(first)[0])


@given(utterances.map(count))
def test_interval_holds_the_estimate_and_stays_within_0_and_100(counts: Counts) -> None:
    interval = statistics.speaker_interval(counts)
    ua = float(statistics.mean_recall(counts.sum(axis=0)))
    if interval is None:
        return
    assert 0 <= interval.low <= ua + 1e-9
    assert ua - 1e-9 <= interval.high <= 100
    assert interval.low < interval.high


def test_interval_is_the_t_interval_of_the_speakers_uas_on_the_logit_scale_if_all_say_as_much() -> None:
    counts = draw_speakers(8, np.random.default_rng(0))
    uas = statistics.mean_recall(counts)
    low, high = stats.t.interval(0.95, 7, loc=uas.mean(), scale=stats.sem(uas))
    slope = 100 / (uas.mean() * (100 - uas.mean()))
    centre = special.logit(uas.mean() / 100)
    expected = 100 * special.expit(centre + slope * (np.array([low, high]) - uas.mean()))
    interval = statistics.speaker_interval(counts)
    assert interval is not None
    assert [interval.low, interval.high] == pytest.approx(list(expected))


def test_copies_of_utterances_add_no_certainty() -> None:
    counts = draw_speakers(5, np.random.default_rng(1))
    once, copied = statistics.speaker_interval(counts), statistics.speaker_interval(61 * counts)
    assert once is not None
    assert copied is not None
    assert [copied.low, copied.high] == pytest.approx([once.low, once.high])


@pytest.mark.parametrize("speakers", [1, 5])
def test_no_interval_where_no_spread_can_be_seen(speakers: int) -> None:
    said = np.full((speakers, 3), 4)
    always_first = as_counts(said * [1, 0, 0], said)
    assert statistics.speaker_interval(always_first) is None
    assert statistics.speaker_interval(as_counts(said, said)) is None


@pytest.mark.parametrize("speakers", [5, 8, 20])
def test_interval_covers_where_the_bootstraps_do_not(speakers: int) -> None:
    generator, truth, repeats = np.random.default_rng(speakers), population_ua(0.4, 0.8), 600
    covered = {"chosen": 0, "utterances": 0, "speakers": 0}
    for _ in range(repeats):
        counts = draw_speakers(speakers, generator)
        interval = statistics.speaker_interval(counts)
        covered["chosen"] += interval is None or interval.low <= truth <= interval.high
        for name, uas in bootstraps(counts, generator).items():
            low, high = np.quantile(uas, [0.025, 0.975])
            covered[name] += bool(low <= truth <= high)
    assert 0.93 <= covered["chosen"] / repeats <= 0.98
    assert covered["utterances"] / repeats < 0.75
    assert covered["speakers"] < covered["chosen"]
    assert speakers > 5 or covered["speakers"] / repeats < 0.88


def bootstraps(counts: Counts, generator: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """UA of 400 resamples: of utterances within each emotion, and of speakers."""
    correct, said = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    total, right = said.sum(axis=0), correct.sum(axis=0)
    drawn = generator.binomial(total, right / total, size=(400, total.size))
    times = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=400)
    return {
        "utterances": 100 * (drawn / total).mean(axis=1),
        "speakers": 100 * ((times @ correct) / (times @ said)).mean(axis=1),
    }


def shares(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Per speaker and emotion, what swapping does to UA_a - UA_b, in its most literal form."""
    difference = np.diagonal(a - b, axis1=1, axis2=2) / a.sum(axis=(0, 2))
    return np.asarray(100 * difference.mean(axis=1))


@pytest.mark.parametrize("speakers", [2, 5, 9])
def test_paired_p_is_that_of_swapping_predictions_and_of_scipy(speakers: int) -> None:
    generator = np.random.default_rng(speakers)
    a, b = draw_speakers(speakers, generator, 0.8), draw_speakers(speakers, generator)
    result = statistics.paired_difference(a, b, generator)
    swapped = []
    for swap in product([False, True], repeat=speakers):
        keep = np.array(swap)[:, None, None]
        one, other = np.where(keep, b, a).sum(axis=0), np.where(keep, a, b).sum(axis=0)
        swapped.append(float(statistics.mean_recall(one) - statistics.mean_recall(other)))
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
    result = statistics.paired_difference(a, b, np.random.default_rng(1))
    answers = np.diagonal(a - b, axis1=1, axis2=2).sum(axis=1)
    reach = int(np.abs(answers).sum())
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1
    for more in answers:
        chances = (np.roll(chances, more) + np.roll(chances, -more)) / 2
    as_far = np.abs(np.arange(-reach, reach + 1)) >= abs(answers.sum())
    assert result.p_value == pytest.approx(chances[as_far].sum(), abs=0.005)
    assert result == statistics.paired_difference(a, b, np.random.default_rng(1))
    assert result.smallest_p == pytest.approx(1e-5)


def test_five_speakers_cannot_tell_models_apart_whatever_the_difference() -> None:
    said = np.full((5, 6), 10)
    result = statistics.paired_difference(as_counts(said, said), as_counts(0 * said, said), np.random.default_rng())
    assert result.difference == 100
    assert result.p_value == result.smallest_p == 0.0625
    assert result.speakers == 5


def test_a_model_against_itself_and_one_speaker_prove_nothing() -> None:
    generator = np.random.default_rng(0)
    a = draw_speakers(7, generator)
    same = statistics.paired_difference(a, a, generator)
    assert (same.difference, same.interval, same.p_value) == (0, None, 1)
    single = statistics.paired_difference(a[:1], draw_speakers(1, generator), generator)
    assert (single.interval, single.p_value, single.smallest_p) == (None, 1, 1)


def test_paired_interval_is_the_t_interval_of_speakers_differences_and_changes_sign_with_the_order() -> None:
    generator = np.random.default_rng(3)
    a, b = draw_speakers(8, generator), draw_speakers(8, generator)
    differences = statistics.mean_recall(a) - statistics.mean_recall(b)
    low, high = stats.t.interval(0.95, 7, loc=differences.mean(), scale=stats.sem(differences))
    there, back = statistics.paired_difference(a, b, generator), statistics.paired_difference(b, a, generator)
    assert there.interval is not None
    assert back.interval is not None
    assert [there.interval.low, there.interval.high] == pytest.approx([low, high])
    assert [back.interval.low, back.interval.high] == pytest.approx([-high, -low])


def test_paired_interval_covers_the_difference() -> None:
    generator, repeats, covered = np.random.default_rng(4), 600, 0
    truth = population_ua(0.9, 0.8) - population_ua(0.4, 0.8)
    for _ in range(repeats):
        a, b = draw_speakers(5, generator, 0.9), draw_speakers(5, generator)
        interval = statistics.paired_difference(a, b, generator).interval
        covered += interval is None or interval.low <= truth <= interval.high
    assert 0.93 <= covered / repeats <= 0.98


def test_holm_on_paired_tests_holds_the_family_wise_error_that_single_tests_break() -> None:
    generator, repeats, single, corrected = np.random.default_rng(5), 400, 0, 0
    for _ in range(repeats):
        models = [draw_speakers(10, generator) for _ in range(4)]
        p = [statistics.paired_difference(models[i], models[j], generator).p_value for i in range(4) for j in range(i)]
        single += min(p) <= 0.05
        corrected += statistics.holm(p).min() <= 0.05
    assert single / repeats > 0.12
    assert corrected / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@settings(max_examples=20)  # statsmodels collects garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_of_nothing_is_nothing() -> None:
    assert statistics.holm([]).shape == (0,)


def condition(logits: list[float], speakers: int, generator: np.random.Generator) -> list[Counts]:
    return [draw_speakers(speakers, generator, logit, sd=0.3) for logit in logits]


def test_loss_and_its_interval_are_those_of_speakers_losses() -> None:
    generator = np.random.default_rng(6)
    clean, noisy = condition([1.5, 0.2], 6, generator)
    losses = statistics.mean_recall(clean) - statistics.mean_recall(noisy)
    low, high = stats.t.interval(0.95, 5, loc=losses.mean(), scale=stats.sem(losses))
    loss = statistics.noise_loss(clean, 20 * noisy)
    assert loss.value == pytest.approx(losses.mean())
    assert loss.interval is not None
    assert [loss.interval.low, loss.interval.high] == pytest.approx([low, high])


def test_loss_difference_is_the_difference_of_losses_and_its_p_swaps_both_conditions() -> None:
    generator = np.random.default_rng(7)
    clean, noisy = condition([1.5, 1.5], 6, generator), condition([0.1, 0.9], 6, generator)
    result = statistics.loss_difference((clean[0], noisy[0]), (clean[1], noisy[1]), generator)
    losses = [statistics.noise_loss(c, n).value for c, n in zip(clean, noisy, strict=True)]
    assert result.difference == pytest.approx(losses[0] - losses[1])
    d = shares(clean[0], clean[1]) - shares(noisy[0], noisy[1])
    sums = [abs(float(np.dot(signs, d))) for signs in product([-1, 1], repeat=6)]
    assert result.p_value == pytest.approx(np.mean(np.array(sums) >= sums[-1] - 1e-9))


def test_trend_counts_every_order_within_every_speaker() -> None:
    generator = np.random.default_rng(8)
    clean, noisy = condition([1.5] * 3, 3, generator), condition([0.3, 0.8, 0.9], 3, generator)
    losses = np.stack(
        [statistics.mean_recall(c) - statistics.mean_recall(n) for c, n in zip(clean, noisy, strict=True)]
    )
    falls = [
        -np.polyfit([0, 1, 2], np.mean([losses[list(o), s] for s, o in enumerate(orders)], axis=0), 1)[0]
        for orders in product(permutations(range(3)), repeat=3)
    ]
    trend = statistics.loss_trend(list(zip(clean, noisy, strict=True)), generator)
    assert trend.fall_per_step == pytest.approx(falls[0])
    assert trend.p_value == pytest.approx(np.mean(np.array(falls) >= falls[0] - 1e-9), abs=0.01)


def test_trend_finds_an_order_of_four_types_where_no_pair_of_five_speakers_can() -> None:
    generator = np.random.default_rng(9)
    clean, noisy = condition([1.5] * 4, 5, generator), condition([-0.6, 0.0, 0.5, 1.1], 5, generator)
    models = list(zip(clean, noisy, strict=True))
    pairs = [statistics.loss_difference(models[i], models[j], generator).p_value for i in range(3) for j in range(i)]
    assert min(pairs) >= 0.0625
    assert statistics.loss_trend(models, generator).p_value < 0.001
    assert statistics.loss_trend(models[::-1], generator).p_value > 0.99


def draw_configurations(
    spread: float, configurations: int, speakers: int, generator: np.random.Generator
) -> tuple[Counts, NDArray[np.float64]]:
    """Counts of configurations that share speakers, [C, S, E, E], and the true UA of each."""
    logits = 0.4 + generator.normal(0, spread, configurations)
    shared = generator.normal(0, 0.6, (speakers, 6))
    own = generator.normal(0, 0.4, (configurations, speakers, 6))
    correct = generator.binomial(5, special.expit(logits[:, None, None] + shared + own))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    chance = special.expit(logits[:, None] + np.sqrt(0.6**2 + 0.4**2) * nodes)
    return as_counts(correct, np.full(correct.shape, 5)), 100 * chance @ weights / weights.sum()


@pytest.mark.parametrize("speakers", [2, 4])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_optimism_estimate_removes_most_of_the_bias_of_the_best(spread: float, speakers: int) -> None:
    generator, optimism, left = np.random.default_rng(10), [], []
    for _ in range(300):
        counts, true = draw_configurations(spread, 40, speakers, generator)
        found = statistics.select_best(counts)
        assert found.corrected_ua is not None
        # Which speakers validate moves all configurations alike; taking it out shows the luck of selection alone.
        shift = float(statistics.mean_recall(counts.sum(axis=1)).mean() - true.mean())
        optimism.append(found.validation_ua - shift - true[found.best])
        left.append(found.corrected_ua - shift - true[found.best])
    assert np.mean(optimism) > 1
    assert abs(np.mean(left)) < 0.25 * np.mean(optimism)
    assert np.mean(np.square(left)) < np.mean(np.square(optimism))


def test_best_is_the_first_of_equals_and_its_ua_that_of_all_speakers() -> None:
    counts, _ = draw_configurations(0.5, 10, 3, np.random.default_rng(11))
    uas = [float(statistics.mean_recall(c.sum(axis=0))) for c in counts]
    found = statistics.select_best(np.concatenate([counts, counts]))
    assert found.best == int(np.argmax(uas))
    assert found.validation_ua == pytest.approx(max(uas))


def test_configurations_whose_order_all_speakers_share_are_not_flattered() -> None:
    said = np.full((5, 3, 2), 10)
    correct = np.arange(5)[:, None, None] + np.array([0, 2, 5])[:, None] + 0 * said
    assert statistics.select_best(as_counts(correct, said)).optimism == pytest.approx(0, abs=1e-9)


def test_no_choice_is_no_optimism_and_one_speaker_cannot_show_any() -> None:
    counts, _ = draw_configurations(0.5, 4, 3, np.random.default_rng(12))
    assert statistics.select_best(counts[:1]).optimism == 0
    alone = statistics.select_best(counts[:, :1])
    assert alone.optimism is None
    assert alone.corrected_ua is None


def test_seed_spread_is_that_of_numpy_and_scipy() -> None:
    ua = [61.2, 58.4, 63.0, 60.5, 59.9]
    spread = statistics.seed_spread(ua)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(ua), scale=stats.sem(ua))
    assert (spread.mean, spread.sd, spread.best) == pytest.approx((np.mean(ua), np.std(ua, ddof=1), 63.0))
    assert spread.interval is not None
    assert (spread.interval.low, spread.interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_expected_best_is_unbiased(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(60, 2, (2000, seeds))
    gap = [(s := statistics.seed_spread(d)).best - (s.expected_best or 0) for d in draws]
    assert np.mean(gap) == pytest.approx(0, abs=4 * np.std(gap) / np.sqrt(len(gap)) + 1e-9)


def test_expected_maximum_is_the_mean_of_maxima() -> None:
    draws = np.random.default_rng(0).normal(size=(100_000, 12)).max(axis=1)
    assert statistics.expected_maximum(12) == pytest.approx(draws.mean(), abs=0.01)
    assert statistics.expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert statistics.expected_maximum(3) == pytest.approx(1.5 / np.sqrt(np.pi))


def test_a_single_seed_has_no_spread() -> None:
    assert statistics.seed_spread([60.0]) == statistics.SeedSpread((60.0,), 60.0, None, None, 60.0, None)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.sampled_from([1, 3, 5, 7]))
def test_median_filter_is_the_median_of_each_window(values: list[float], window: int) -> None:
    continued = np.pad(values, window // 2, mode="edge")
    literal = [np.median(continued[i : i + window]) for i in range(len(values))]
    assert statistics.median_filter(values, window).tolist() == literal


COUNTS = draw_speakers(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda g: statistics.unweighted_accuracy([], [], 2), r"y has shape \(0,\).*one or more labels"),
        (lambda g: statistics.unweighted_accuracy([0, 1], [0, 2], 2), r"predicted holds 2.*0 \.\. 1"),
        (lambda g: statistics.unweighted_accuracy([0.5], [0], 2), r"y holds 0\.5"),
        (lambda g: statistics.unweighted_accuracy([0, 1], [0], 2), r"\(2, 1, 2\)"),
        (lambda g: statistics.speaker_confusions([0, 1], [0, 1], ["a"], 2), r"\(2, 2, 1\)"),
        (lambda g: statistics.speaker_interval(COUNTS[0]), r"shape \(6, 6\)"),
        (lambda g: statistics.speaker_interval(0 * COUNTS), "speaker 0 has no utterance"),
        (lambda g: statistics.paired_difference(COUNTS, 2 * COUNTS, g), "same; evaluate both"),
        (lambda g: statistics.paired_difference(COUNTS, COUNTS[:2], g), "same; evaluate both"),
        (lambda g: statistics.noise_loss(COUNTS, COUNTS[:2]), "same speakers"),
        (lambda g: statistics.loss_trend([(COUNTS, COUNTS)], g), "two or more"),
        (lambda g: statistics.holm([0.1, float("nan")]), r"\[0, 1\]"),
        (lambda g: statistics.select_best(COUNTS), "configurations, speakers"),
        (lambda g: statistics.select_best(np.stack([COUNTS, 2 * COUNTS])), "evaluate every one"),
        (lambda g: statistics.seed_spread([101.0]), r"\[0, 100\]"),
        (lambda g: statistics.median_filter([1, 2], 4), "odd"),
        (lambda g: statistics.expected_maximum(0), "1 or more"),
    ],
)
def test_wrong_input_is_one_line_that_says_so(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        call(np.random.default_rng(0))
    assert "\n" not in str(error.value)


def test_the_benchmark_prints_its_three_tables() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
    command = [sys.executable, "-W", "error", str(script), "--repeats", "2"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n\n")[1::2]
    assert [table.count("\n|") for table in tables] == [36, 5, 25]
