"""Folds, hypotheses and floors on predictions whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from sersearch.report.comparison import Robustness, robustness
from sersearch.report.evidence import Predictions, reaches_chance
from sersearch.report.units import Units
from sersearch.statistics.counts import mean_recall
from sersearch.statistics.intervals import speaker_interval
from sersearch.study.fold import Fold
from sersearch.study.hypothesis import PAPERS_CLAIM, Hypothesis

SPEAKERS = [f"s{number:02}" for number in range(12)]
MODELS = ("S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN")


def folds(number: int) -> Units:
    """Every speaker tests once, the folds in an order other than that of the names."""
    parts = [tuple(SPEAKERS[start::number]) for start in range(number)]
    return Units.of_folds([Fold(train=("x", "y", "z", "w"), validation=("v",), test=part) for part in parts])


def predictions(clean: float, noisy: float, seed: int) -> Predictions:
    """Twelve speakers, four emotions, ten clean and twenty noisy copies each, right with these probabilities."""
    generator = np.random.default_rng(seed)
    speaker, emotion, copy = (axis.ravel() for axis in np.indices((12, 4, 30)))
    right = generator.random(speaker.size) < np.where(copy < 10, clean, noisy)
    return Predictions(
        emotions=("anger", "fear", "joy", "calm"),
        seeds=1,
        emotion_N=emotion,
        predicted_N=np.where(right, emotion, (emotion + 1) % 4),
        speaker_N=np.array(SPEAKERS)[speaker],
        noise_N=np.where(copy < 10, "", "rain.wav"),
        snr_db_N=np.where(copy < 10, np.nan, np.where(emotion == 3, 12.0, 3.0)),
    )


def found(units: Units, hypothesis: Hypothesis | None, models: tuple[str, ...] = MODELS) -> Robustness:
    noisy = {"S-CLDNN": 0.55, "T-CLDNN": 0.65, "ST-CLDNN": 0.65, "FST-CLDNN": 0.75, "LDNN": 0.5}
    made = [(model.lower(), model, predictions(0.85, noisy[model], number)) for number, model in enumerate(models)]
    return robustness("log-mels", made, units, hypothesis, np.random.default_rng(0))


def test_a_true_order_is_shown_within_folds_and_its_reverse_is_not() -> None:
    there = found(folds(6), PAPERS_CLAIM)
    assert [(claim.measure, claim.shown) for claim in there.claims] == [("ua", True), ("loss", True)]
    assert all(claim.contrast.units == 6 and 6 < claim.points < 14 for claim in there.claims)
    assert there.verdict.startswith("The study's hypothesis is that noise harms S > {T, ST} > FST. That noisy UA rises")
    reverse = Hypothesis(order=(("FST-CLDNN",), ("S-CLDNN",)), on=("loss",))
    (claim,) = found(folds(6), reverse).claims
    assert (claim.shown, claim.adjusted_p == claim.contrast.p_value) == (False, True)
    assert claim.points < 0


def test_one_partition_is_tested_over_speakers_and_two_folds_cannot_show_two_measures() -> None:
    alone = found(folds(1), PAPERS_CLAIM)
    assert alone.units.kind == "speaker"
    assert {claim.contrast.units for claim in alone.claims} == {12}
    single = robustness(
        "log-mels",
        [(model, model, predictions(0.9, 0.5, 1)) for model in MODELS],
        Units("fold", (tuple(range(12)),), 0.25),
        PAPERS_CLAIM,
        np.random.default_rng(0),
    )
    assert "No p value of 1 fold can be below 0.083" in single.verdict


def test_a_hypothesis_is_tested_whole_or_not_at_all_and_the_papers_as_far_as_it_goes() -> None:
    part = MODELS[1:]
    lacking = found(folds(6), PAPERS_CLAIM, part)
    assert (lacking.claims, lacking.missing) == ((), ("S-CLDNN",))
    assert lacking.verdict == ("The study's hypothesis is not tested on log-mels, which has no tested row of S-CLDNN.")
    exploratory = found(folds(6), None, (*part, "LDNN"))
    assert exploratory.order == (("T-CLDNN", "ST-CLDNN"), ("FST-CLDNN",))
    assert exploratory.verdict.startswith("Exploratory")
    assert [loss.model for loss in exploratory.losses] == [*part, "LDNN"]
    assert {(pair.first, pair.second) for pair in exploratory.pairs} == {(0, 1), (0, 2), (1, 2)}
    assert found(folds(6), None, MODELS[1:3]).claims == (), "T and ST stand on one level"


def test_pairs_over_folds_have_the_conservative_bound_of_the_folds_own_ratio() -> None:
    units = folds(6)
    assert units.bound == pytest.approx(2 / 4)
    assert folds(1).bound is None
    robust = found(units, None)
    for pair in robust.pairs:
        assert pair.bound_p is not None
        assert pair.comparison.speakers == 6
    for loss, model in zip(robust.losses, MODELS, strict=True):
        drawn = predictions(0.85, {"S": 0.55, "T": 0.65, "ST": 0.65, "FST": 0.75}[model[:-6]], MODELS.index(model))
        uas = [mean_recall(units.add_up(drawn.counts(of))) for of in (drawn.clean_N, ~drawn.clean_N)]
        low, high = stats.t.interval(0.95, 5, loc=(uas[0] - uas[1]).mean(), scale=stats.sem(uas[0] - uas[1]))
        assert loss.again
        assert (loss.again.low, loss.again.high) == pytest.approx((low, high))


def test_units_add_up_the_speakers_of_their_folds() -> None:
    counts = predictions(0.8, 0.5, 3).counts()
    units = folds(4)
    summed = units.add_up(counts)
    names = sorted(SPEAKERS)
    for fold, start in zip(summed, range(4), strict=True):
        own = [names.index(speaker) for speaker in SPEAKERS[start::4]]
        assert np.array_equal(fold, counts[own].sum(axis=0))
    evidence = predictions(0.8, 0.5, 3).evidence(units)
    assert evidence.recipe == speaker_interval(summed)
    assert predictions(0.8, 0.5, 3).evidence(folds(1)).recipe is None


def test_bands_say_how_many_emotions_they_hold_and_rows_near_chance_are_marked() -> None:
    evidence = predictions(0.9, 0.25, 4).evidence(folds(6))
    assert [(band.name, band.emotions) for band in evidence.snr_bands] == [
        ("clean", 4),
        ("0 to 5 dB", 3),
        ("10 to 15 dB", 1),
    ]
    assert evidence.noisy_alone
    assert evidence.noisy_alone.at_chance
    assert not evidence.overall.at_chance
    assert reaches_chance(predictions(0.0, 0.0, 5).counts())
    assert not reaches_chance(predictions(1.0, 1.0, 5).counts())
