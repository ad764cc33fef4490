from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from sersearch.errors import InputError
from sersearch.study.configuration import NetworkConfiguration, SVMConfiguration
from sersearch.study.fold import Dealt, Fold, Shares, deal_folds
from sersearch.study.key import KeyRule, key_of
from sersearch.study.study import parse_study
from sersearch.study.trial import Folds, StoreIdentity, Trial, make_trials
from tests.trials import FOLD, make_trial

FST = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2)
IDENTITY = StoreIdentity(fingerprint="f", speakers=tuple("abcdefghij"), vectors={"IS09": "v"})


def test_the_key_holds_all_that_a_trial_depends_on() -> None:
    slower = FST.model_copy(update={"learning_rate": 0.01})
    other_fold = FOLD.model_copy(update={"train": ("s0", "s1")})
    trials = [
        make_trial(FST),
        make_trial(slower),
        make_trial(FST, seed=1),
        make_trial(FST, data="e"),
        make_trial(FST, fold=other_fold),
    ]
    assert len({trial.key for trial in trials}) == len(trials)


def test_the_key_holds_nothing_that_no_number_depends_on() -> None:
    trial = make_trial(FST)
    renamed = make_trial(FST, fold=FOLD.model_copy(update={"name": "fold 3", "test": ("s6", "s7")}))
    assert renamed.key == trial.key == trial.sealed.key
    assert trial.sealed.fold.test == ()


def test_a_copy_derives_its_key_anew() -> None:
    trial = make_trial(FST)
    assert trial.key
    assert trial.model_copy(update={"seed": 1}).key == make_trial(FST, seed=1).key != trial.key


def test_a_trial_survives_its_own_record() -> None:
    for configuration in (FST, SVMConfiguration(model="SVM", features="IS09", kernel="rbf", gamma=2)):
        trial = make_trial(configuration, seed=2)
        assert trial.key
        again = Trial.model_validate_json(trial.model_dump_json())
        assert again == trial
        assert again.key == trial.key


@pytest.mark.parametrize(
    ("trial", "key"),
    [
        (make_trial(NetworkConfiguration(model="LDNN")), "b68d0b392c1aaef3"),
        (make_trial(FST, seed=3), "5ebeb0df9b633680"),
        (
            make_trial(NetworkConfiguration(model="T-CLDNN", w1=8, w2=3, precision="bf16", epochs=20)),
            "9d3e3e70f24e1ec4",
        ),
        (make_trial(SVMConfiguration(model="SVM", features="IS09", C=10)), "b113c563f1264252"),
    ],
)
def test_keys_stay_from_version_to_version(trial: Trial, key: str) -> None:
    assert trial.key == key


class Later(NetworkConfiguration):
    """The configuration of a later version: a setting with a default, and one that no number depends on."""

    label_smoothing: Annotated[float, Field(ge=0)] = 0.0
    nickname: Annotated[str, KeyRule.NEVER] = "plain"


@given(
    st.sampled_from(["LDNN", "T-CLDNN", "FST-CLDNN"]),
    st.floats(1e-5, 1.0),
    st.integers(1, 200),
    st.sampled_from(["float32", "bf16"]),
)
def test_a_setting_added_with_a_default_changes_no_key(model: str, rate: float, epochs: int, precision: str) -> None:
    kernels = {} if model == "LDNN" else {"w1": 3, "w2": 2}
    values = {"model": model, "learning_rate": rate, "epochs": epochs, "precision": precision, **kernels}
    now, later = NetworkConfiguration.model_validate(values), Later.model_validate(values)
    assert key_of(later) == key_of(now)
    assert key_of(Later.model_validate(values | {"nickname": "other"})) == key_of(now)
    assert key_of(Later.model_validate(values | {"label_smoothing": 0.1})) != key_of(now)


def test_precision_is_a_training_setting_and_part_of_the_key() -> None:
    space = {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": "2:3"}
    study = parse_study({"name": "x", "spaces": [space], "training": {"precision": "bf16"}}, "x.toml")
    configuration = next(iter(study.spaces[0].enumerate(study.settings)))
    assert configuration.precision == "bf16"
    precisions = ("float32", "tf32", "bf16")
    assert len({make_trial(configuration.model_copy(update={"precision": p})).key for p in precisions}) == 3
    with pytest.raises(InputError, match="precision: 'fp8' was given"):
        parse_study({"name": "x", "spaces": [space], "training": {"precision": "fp8"}}, "x.toml")


def test_the_partition_is_one_fold_and_each_seed_a_trial() -> None:
    folds = Folds(IDENTITY.speakers, Shares())
    trials = make_trials(FST, 3, IDENTITY, folds)
    assert [trial.seed for trial in trials] == [0, 1, 2]
    assert len({trial.fold for trial in trials}) == 1
    assert {trial.data for trial in trials} == {"f"}


def test_what_draws_nothing_is_trained_once_per_fold() -> None:
    folds = Folds(IDENTITY.speakers, Shares())
    svm = SVMConfiguration(model="SVM", features="IS09")
    (trial,) = make_trials(svm, 3, IDENTITY, folds)
    assert trial.data not in ("f", "v")
    loso = make_trials(svm.model_copy(update={"protocol": "loso"}), 3, IDENTITY, folds)
    assert [trial.fold.test for trial in loso] == [(speaker,) for speaker in IDENTITY.speakers]
    assert all(trial.fold.validation == () and len(trial.fold.train) == 9 for trial in loso)


def test_leaving_one_subject_out_is_the_same_code_for_networks() -> None:
    folds = Folds(IDENTITY.speakers, Shares())
    loso = FST.model_copy(update={"protocol": "loso"})
    trials = make_trials(loso, 2, IDENTITY, folds)
    assert [trial.fold.test for trial in trials] == [(speaker,) for speaker in IDENTITY.speakers] * 2
    assert all(trial.fold.validation for trial in trials)
    assert len({trial.key for trial in trials}) == 20
    with pytest.raises(InputError, match="leaving one out needs 3: add speakers"):
        make_trials(loso, 1, IDENTITY, Folds(("a", "b"), Shares()))


def test_a_fold_is_disjoint() -> None:
    with pytest.raises(ValueError, match="speaker b is in two parts"):
        Fold(train=("a", "b"), validation=("b",), test=("c",))


def test_leaving_one_subject_out_of_a_study_in_folds_is_as_many_folds_as_speakers() -> None:
    groups = {name: ("female", "male")[number % 2] for number, name in enumerate(IDENTITY.speakers)}
    folds = Folds(IDENTITY.speakers, Dealt(folds=5, validation=4), groups)
    every = deal_folds(IDENTITY.speakers, Dealt(folds=10, validation=4), groups)
    assert folds.of(FST.model_copy(update={"protocol": "loso"})) == every
    assert folds.of(FST) == deal_folds(IDENTITY.speakers, Dealt(folds=5, validation=4), groups)
    # An SVM is chosen by leaving out each of the others, so that no fold needs validation speakers.
    svm = SVMConfiguration(model="SVM", features="IS09", protocol="loso")
    assert [fold.validation for fold in folds.of(svm)] == [()] * 10
