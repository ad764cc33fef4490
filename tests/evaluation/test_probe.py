"""What modules know: against oracles on drawn numbers, planted cases, and winners that are really trained."""

import itertools
import json
import math
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ortho_group
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.evaluation.leaderboard import Winner, select_winners
from sersearch.evaluation.probe import probes, separability
from sersearch.evaluation.probe.findings import Accuracy, Findings, ProbedModule, ProbedWinner, read_findings
from sersearch.evaluation.probe.inquiry import ProbeTargets, ProbeWinner, probe, probe_module
from sersearch.evaluation.probe.probes import Chosen, choose_svm, cross_validate, deal, predict, prediction_p, shuffle
from sersearch.evaluation.probe.representations import Representations, write_representations
from sersearch.evaluation.probe.separability import inertia, project
from sersearch.evaluation.test_partition import record_ledger
from sersearch.models.cldnn import CLDNN
from sersearch.models.reference import ReferenceCLDNN
from sersearch.report.figures import figures
from sersearch.report.folder import make_report, read_report
from sersearch.report.modules import label_places, sheets_of
from sersearch.report.page import page
from sersearch.report.paper import CONTRIBUTIONS, TABLE_5
from sersearch.report.text import table
from sersearch.run.run import Run, start_run
from sersearch.run.storage import Folder
from sersearch.speech.corpora import read_corpus
from sersearch.statistics.counts import unweighted_accuracy
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.configuration.base import MODULES, Module
from sersearch.study.study import load_study
from sersearch.training.dataset import open_dataset
from sersearch.training.representations import mean_window, represent
from sersearch.training.system import run_trial
from tests.report.test_report_page import browser, resize  # noqa: F401
from tests.test_cli import refused, works


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


TINY = {"maps": 4, "cells": 5, "dense": (6,)}
CONFIGURATIONS = [
    NetworkConfiguration(model="LDNN", **TINY),
    NetworkConfiguration(model="S-CLDNN", h1=4, h2=3, **TINY),
    NetworkConfiguration(model="T-CLDNN", features="mfccs", w1=3, w2=2, deltas=1, **TINY),
    NetworkConfiguration(model="ST-CLDNN", h1=9, w1=8, h2=4, w2=3, **TINY),
    NetworkConfiguration(model="FST-CLDNN", w1=5, w2=2, **TINY),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda c: c.model)
def test_representations_are_means_over_real_frames(configuration: NetworkConfiguration) -> None:
    model = CLDNN(configuration, 3, torch.Generator().manual_seed(2)).double()
    reference = ReferenceCLDNN(configuration, 3).double()
    reference.load_state_dict(model.state_dict())
    lengths = torch.tensor([7, 1, 19])
    x_BTF = torch.full((3, 19, configuration.rows * configuration.channels), 1e3, dtype=torch.float64)
    for x_TF, length in zip(x_BTF, lengths.tolist(), strict=True):
        x_TF[:length] = torch.randn(length, x_TF.shape[1], generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        found = represent(model, x_BTF, lengths)
        for row, length in enumerate(lengths.tolist()):
            x_TF = x_BTF[row, :length]
            expected: dict[Module, torch.Tensor] = {"raw": reference.spliced(x_TF).flatten(1).mean(0)}
            vectors = reference.encode(x_TF)
            if configuration.kernels:
                expected["cnn"] = vectors.mean(0)
            expected["blstm"] = reference.represent(vectors)
            expected["mlp"] = reference(x_TF).softmax(0)
            assert list(found) == list(expected)
            for name, vector in expected.items():
                torch.testing.assert_close(found[name][row], vector, rtol=1e-10, atol=1e-10)


def test_a_mean_window_is_ordered_as_the_window() -> None:
    x_PBV = torch.arange(24.0).view(6, 1, 4)
    expected = torch.stack([x_PBV[[t, t + 2], 0].T.flatten() for t in range(3)]).mean(0)
    assert torch.equal(mean_window(x_PBV, torch.tensor([3]), 2, 2)[0], expected)


def literal_inertia(p: NDArray[np.float64], labels: list[int]) -> tuple[float, float]:
    """Eq. 15 and 16, sum by sum."""
    C = [[p[u] for u in range(len(p)) if labels[u] == c] for c in sorted(set(labels))]
    centre = [sum(c) / len(c) for c in C]
    omega_i = sum(sum(math.dist(centre[k], s) ** 2 for s in c) / len(c) for k, c in enumerate(C)) / len(C)
    omega_o = sum(math.dist(b, a) ** 2 for k, a in enumerate(centre) for m, b in enumerate(centre) if m != k)
    return omega_i, omega_o / (len(C) ** 2 - len(C))


@st.composite
def clusters(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    classes = draw(st.integers(2, 6))
    members = draw(st.lists(st.integers(1, 7), min_size=classes, max_size=classes))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    label_U = generator.permutation(np.repeat(np.arange(classes), members))
    return generator.normal(0, 3, (len(label_U), draw(st.integers(1, 9)))), label_U


@given(clusters())
def test_rho_is_the_papers(drawn: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    p_UD, label_U = drawn
    found = inertia(p_UD, label_U)
    omega_i, omega_o = literal_inertia(p_UD, label_U.tolist())
    assert (found.intra, found.inter) == pytest.approx((omega_i, omega_o))
    assert found.rho == pytest.approx(omega_i / omega_o)


@given(clusters(), st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_rho_knows_no_shift_rotation_or_scale(
    drawn: tuple[NDArray[np.float64], NDArray[np.int64]], scale: float, seed: int
) -> None:
    p_UD, label_U = drawn
    dimensions = p_UD.shape[1]
    turn = ortho_group.rvs(dimensions, random_state=seed) if dimensions > 1 else -np.eye(1)
    moved = scale * p_UD @ turn + np.random.default_rng(seed).normal(0, 50, dimensions)
    assert inertia(moved, label_U).rho == pytest.approx(inertia(p_UD, label_U).rho, rel=1e-6)


def test_rho_is_none_where_all_centres_coincide() -> None:
    assert inertia(np.ones((4, 3)), np.array([0, 0, 1, 1])).rho is None


@pytest.mark.parametrize(("classes", "components"), [(2, 1), (3, 2), (6, 2)])
def test_without_shrinkage_the_plane_is_scikit_learns(
    classes: int, components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separability, "SHRINKAGE", 1e-12)
    generator = np.random.default_rng(classes)
    label_U = generator.choice(classes, 300, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    x_UD = generator.normal(0, 1, (300, 12)) @ generator.normal(0, 1, (12, 12))
    x_UD += 2 * generator.normal(0, 1, (classes, 12))[label_U]
    found = project(x_UD, label_U)
    expected = LinearDiscriminantAnalysis(n_components=components).fit_transform(x_UD, label_U)
    assert found.shape == (300, components)
    for a, b in zip(found.T, expected.T, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) == pytest.approx(1, abs=1e-9)


def test_the_plane_parts_less_of_what_has_no_classes() -> None:
    """Nearly as many numbers as utterances, and like real ones correlated: chance alone parts them, if it is let."""
    generator = np.random.default_rng(0)
    label_U = np.arange(240) % 3
    x_UD = generator.normal(0, 1, (240, 160)) * np.geomspace(1, 0.01, 160) @ ortho_group.rvs(160, random_state=0)

    def parted(plane_UK: NDArray[np.float64]) -> float:
        centre_CK = np.stack([plane_UK[label_U == each].mean(0) for each in range(3)])
        nearest_U = ((plane_UK[:, None] - centre_CK) ** 2).sum(2).argmin(1)
        return unweighted_accuracy(label_U, nearest_U, 3)

    assert parted(LinearDiscriminantAnalysis().fit_transform(x_UD, label_U)) > 90
    assert parted(project(x_UD, label_U)) < 70


def test_a_constant_representation_lies_in_a_point() -> None:
    label_U = np.arange(6) % 3
    assert not project(np.ones((6, 4)), label_U).any()
    assert project(np.arange(6.0)[:, None], label_U).shape == (6, 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(2, 5), st.integers(0, 99))
def test_folds_have_their_share_of_each_label(labels: list[int], folds: int, seed: int) -> None:
    label_U = np.array(labels)
    fold_U = deal(label_U, folds, np.random.default_rng(seed))
    for label in set(labels):
        each = np.bincount(fold_U[label_U == label], minlength=folds)
        assert each.max() - each.min() <= 1
    everything = np.bincount(fold_U, minlength=folds)
    assert everything.max() - everything.min() <= 1


def test_labels_are_shuffled_within_strata() -> None:
    generator = np.random.default_rng(0)
    label_U, stratum_U = generator.integers(4, size=60), generator.integers(3, size=60)
    shuffled_PU = shuffle(label_U, stratum_U, generator)
    for stratum in range(3):
        at = stratum_U == stratum
        assert (np.sort(shuffled_PU[:, at]) == np.sort(label_U[at])).all()
        assert len(np.unique(shuffled_PU[:, at], axis=0)) > 400


@pytest.mark.parametrize("dimensions", [5, 200])
def test_reading_off_is_the_nearest_mean(dimensions: int) -> None:
    """Against the formula with every matrix written out."""
    generator = np.random.default_rng(dimensions)
    label_U = np.arange(90) % 3
    x_UD = generator.normal(0, 1, (90, dimensions)) * np.geomspace(1, 9, dimensions) + 4
    x_UD += 1.5 * generator.normal(0, 1, (3, dimensions))[label_U]
    fold_U = deal(label_U, 5, generator)
    predicted, p_value = cross_validate(x_UD, label_U, fold_U, shuffle(label_U, fold_U, generator))
    z_UD = (x_UD - x_UD.mean(0)) / x_UD.std(0)
    for u in range(90):
        learnt = fold_U != fold_U[u]
        centred = z_UD[learnt] - z_UD[learnt].mean(0)
        metric = np.linalg.inv(centred.T @ centred + probes.RIDGE * dimensions * np.eye(dimensions))
        away = [z_UD[u] - z_UD[learnt & (label_U == c)].mean(0) for c in range(3)]
        assert predicted[u] == np.argmin([d @ metric @ d for d in away])
    assert p_value == 1 / 500
    assert unweighted_accuracy(label_U, predicted, 3) > 60


def test_of_two_classes_it_is_fishers_discriminant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "RIDGE", 1e-9)
    generator = np.random.default_rng(3)
    label_U = (generator.random(400) < 0.15).astype(np.int64)
    x_UD = generator.normal(0, 1, (400, 6)) @ generator.normal(0, 1, (6, 6)) + label_U[:, None]
    fold_U = deal(label_U, 4, generator)
    predicted, _ = cross_validate(x_UD, label_U, fold_U, shuffle(label_U, fold_U, generator)[:1])
    for fold in range(4):
        oracle = LinearDiscriminantAnalysis(priors=[0.5, 0.5]).fit(x_UD[fold_U != fold], label_U[fold_U != fold])
        assert (predicted[fold_U == fold] == oracle.predict(x_UD[fold_U == fold])).all()


def test_p_values_of_nothing_are_spread_evenly() -> None:
    generator = np.random.default_rng(7)
    label_U = np.repeat(np.arange(3), 10)
    found: list[float] = []
    for _ in range(40):
        fold_U = deal(label_U, 5, generator)
        shuffled_PU = shuffle(label_U, fold_U, generator)[:99]
        found.append(cross_validate(generator.normal(0, 1, (30, 4)), label_U, fold_U, shuffled_PU)[1])
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.1) < 0.25


def test_p_value_of_predictions_against_counting_all_orders() -> None:
    generator = np.random.default_rng(0)
    label_U, predicted_U = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])
    stratum_U = np.array([0, 0, 1, 1])
    # Of the four orders within strata these do as well as the true one: itself, and the second stratum turned.
    found = prediction_p(label_U, predicted_U, shuffle(label_U, stratum_U, generator))
    assert found == pytest.approx(0.5, abs=0.06)
    assert prediction_p(label_U, label_U, shuffle(label_U, stratum_U, generator)) == pytest.approx(0.25, abs=0.06)


def test_the_svm_is_scikit_learns_chosen_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    emotion_U = generator.integers(3, size=150)
    x_UD = generator.normal(0, 1, (150, 8)) * np.geomspace(1, 1e3, 8) + 7
    x_UD[:, 0] += emotion_U
    x_UD[:, 1] += 2 * (emotion_U == 1)
    train, validation, others = np.arange(80), np.arange(80, 120), np.arange(120, 150)

    def machine(kernel: str, C: float) -> SVC:
        # Its linear kernel is not divided by the 8 numbers.
        C = C / 8 if kernel == "linear" else C
        svm = SVC(kernel=kernel, gamma=1 / 8, C=C, class_weight="balanced")
        return make_pipeline(StandardScaler(), svm).fit(x_UD[train], emotion_U[train])

    grid = [(kernel, C) for kernel in ("linear", "rbf") for C in (0.01, 0.1, 1, 10, 100, 1000)]
    ua = [unweighted_accuracy(emotion_U[validation], machine(*each).predict(x_UD[validation]), 3) for each in grid]
    best = int(np.argmax(np.round(ua, 9)))
    chosen = choose_svm(x_UD, emotion_U, train, validation)
    assert (chosen.kernel, chosen.C) == grid[best]
    assert chosen.validation_ua == pytest.approx(ua[best])
    monkeypatch.setattr(probes, "_TOGETHER", 7)
    for kernel, C in grid:
        predicted = predict(x_UD, emotion_U, train, others, Chosen(kernel, C, 0))  # type: ignore[arg-type]
        assert (predicted == machine(kernel, C).predict(x_UD[others])).all()


# Planted cases: 16 speakers x 4 emotions x 4 utterances; the last 5 are tested, each also in noise.

EMOTIONS = ("anger", "fear", "joy", "sadness")


def labels(genders: tuple[str, str] = ("female", "male")) -> Representations:
    rows = []
    for speaker in range(16):
        part = "train" if speaker < 9 else "validation" if speaker < 11 else "test"
        for emotion in EMOTIONS:
            for take in range(4):
                clean = (part, f"{speaker}-{emotion}-{take}", f"s{speaker}", genders[speaker % 2], emotion)
                rows += [(*clean, math.nan)] + [(*clean, (-7.0, 12.0)[take % 2])] * (part == "test")
    part_U, utterance_U, speaker_U, gender_U, emotion_U, snr_db_U = (np.array(each) for each in zip(*rows, strict=True))
    storage = Folder(Path())
    return Representations(storage, "none", MODULES, part_U, utterance_U, speaker_U, gender_U, emotion_U, snr_db_U)


@pytest.fixture(scope="module")
def known() -> Representations:
    return labels()


@pytest.fixture(scope="module")
def asked(known: Representations) -> ProbeTargets:
    return ProbeTargets.of(known, EMOTIONS)


def planted(known: Representations, **strength: float) -> NDArray[np.float32]:
    """Vectors in which each name that is given shifts the mean by so many deviations, in a direction of its own."""
    generator = np.random.default_rng(1)
    x_UD = generator.normal(0, 1, (len(known.part_U), 24))
    for attribute in ("emotion", "speaker", "gender"):
        each_U = np.unique(getattr(known, f"{attribute}_U"), return_inverse=True)[1]
        x_UD += strength.get(attribute, 0) * generator.normal(0, 1, (each_U.max() + 1, 24))[each_U]
    return x_UD.astype(np.float32)


def test_what_is_planted_comes_out(known: Representations, asked: ProbeTargets) -> None:
    found = {
        each: probe_module(planted(known, **{each: 2.0}), "cnn", asked) for each in ("emotion", "speaker", "gender")
    }
    for carried, probed in found.items():
        for attribute, accuracy in probed.accuracy.items():
            if attribute == carried:
                assert accuracy.ua > 95, (carried, attribute)
                assert accuracy.p_value < 0.05, (carried, attribute)
            elif (carried, attribute) == ("gender", "speaker"):
                assert accuracy.ua > accuracy.chance, "gender tells half of the speakers from the other half"
            else:
                assert accuracy.p_value > 0.05, (carried, attribute)
                assert abs(accuracy.ua - accuracy.chance) < 20, (carried, attribute)
        rho = {attribute: each.rho or math.inf for attribute, each in probed.separability.items()}
        assert min(rho, key=rho.__getitem__) == carried
    assert found["emotion"].accuracy["speaker"].chance == pytest.approx(100 / 9)


def test_noise_is_counted_against_the_same_utterances(known: Representations, asked: ProbeTargets) -> None:
    x_UD = planted(known, emotion=2.0)
    lost = np.isclose(known.snr_db_U, -7)
    x_UD[lost] = x_UD[lost][::-1] * 0
    probed = probe_module(x_UD, "cnn", asked)
    by_band = {each.band: each for each in probed.noise}
    assert list(by_band) == ["all", "-10 to -5 dB", "10 to 15 dB"]
    assert [each.copies for each in probed.noise] == [80, 40, 40]
    low, high, both = by_band["-10 to -5 dB"], by_band["10 to 15 dB"], by_band["all"]
    assert low.noisy_ua == pytest.approx(25), "one answer for all"
    assert high.loss == pytest.approx(0, abs=5)
    for each in probed.noise:
        assert each.loss == pytest.approx(each.clean_ua - each.noisy_ua)
    assert both.noisy_ua == pytest.approx((low.noisy_ua + high.noisy_ua) / 2)
    assert both.clean_ua == pytest.approx(probed.accuracy["emotion"].ua)


def test_folds_of_gender_have_other_speakers(known: Representations, asked: ProbeTargets) -> None:
    gender, speaker = asked.attribute_folds["gender"], asked.attribute_folds["speaker"]
    speaker_U = known.speaker_U[asked.train]
    for name in np.unique(speaker_U):
        assert len(np.unique(gender.fold_U[speaker_U == name])) == 1
        assert len(np.unique(gender.shuffled_PU[:, speaker_U == name], axis=1).T) == 1
        assert len(np.unique(speaker.fold_U[speaker_U == name])) == 5


@pytest.mark.parametrize(
    ("genders", "why"),
    [
        (("female", "female"), "all training speakers are female"),
        (("female", ""), "it is unknown for training speaker s1"),
    ],
)
def test_a_corpus_of_one_gender_leaves_the_row_out_and_says_so(genders: tuple[str, str], why: str) -> None:
    known = labels(genders)
    asked = ProbeTargets.of(known, EMOTIONS)
    assert asked.omitted == {"gender": why}
    assert list(asked.attribute_folds) == ["speaker"]
    probed = probe_module(planted(known, emotion=1.0), "mlp", asked)
    assert list(probed.accuracy) == list(probed.separability) == ["emotion", "speaker"]
    findings = of_drawn_modules(probed, asked)
    (sheet,) = [sheet for sheet in sheets_of(findings) if sheet.name.startswith("modules-knowledge")]
    assert f"Gender is left out: {why}." in sheet.notes
    assert not any("gender" in column for column in sheet.columns)


def of_drawn_modules(probed: ProbedModule, asked: ProbeTargets) -> Findings:
    modules = tuple(probed.model_copy(update={"name": name}) for name in MODULES)
    return Findings(
        condition="clean",
        emotions=EMOTIONS,
        utterance=asked.utterance,
        labels={name: tuple(each.tolist()) for name, each in asked.names.items()},
        omitted=asked.omitted,
        winners=(
            ProbedWinner(
                key="k",
                keys=("k",),
                figures=("f",),
                space="t",
                model="T-CLDNN",
                features="log-mels",
                represents_model=True,
                modules=modules,
            ),
        ),
    )


def test_contributions_are_the_papers_on_its_own_table(known: Representations, asked: ProbeTargets) -> None:
    probed = probe_module(planted(known), "mlp", asked)
    one = of_drawn_modules(probed, asked)

    def with_ua(module: ProbedModule, ua: float) -> Accuracy:
        return module.accuracy["emotion"].model_copy(update={"ua": ua})

    def winner(model: str, features: str, represents_model: bool) -> ProbedWinner:
        modules = tuple(
            module.model_copy(
                update={"accuracy": {"emotion": module.accuracy["emotion"].model_copy(update={"ua": ua})}}
            )
            for module, ua in zip(one.winners[0].modules, TABLE_5[model, features], strict=True)
        )
        kind = {"model": model, "features": features, "represents_model": represents_model, "modules": modules}
        return one.winners[0].model_copy(update=kind)

    silent = winner("S-CLDNN", "log-mels", represents_model=False)
    table_5 = one.model_copy(update={"winners": (silent, *(winner(*kind, represents_model=True) for kind in TABLE_5))})
    for name, (mean, deviation) in table_5.contributions().items():
        assert (mean, deviation) == pytest.approx(CONTRIBUTIONS[name], abs=0.01)


@given(clusters(), st.floats(0, 1))
def test_labels_stand_apart_and_near_their_centres(
    drawn: tuple[NDArray[np.float64], NDArray[np.int64]], crowded: float
) -> None:
    """In a panel of 1 x 1: a label of three letters is about 0.08 wide and 0.055 high."""
    label_U = drawn[1]
    corners_22 = np.array([[0.0, 0.0], [1.0, 1.0]])
    inner_U2 = 0.5 + crowded * np.random.default_rng(len(label_U)).uniform(-0.5, 0.5, (len(label_U), 2))
    points_U2 = np.vstack([corners_22, inner_U2])
    class_U = np.concatenate([label_U[:1], label_U[:1], label_U])
    names = [f"s{number:02}" for number in range(label_U.max() + 1)]
    place_C2 = label_places(points_U2, class_U, names)
    centre_C2 = np.stack([points_U2[class_U == each].mean(0) for each in range(len(names))])
    assert place_C2[:, 0] == pytest.approx(centre_C2[:, 0])
    assert np.abs(place_C2 - centre_C2).max() < 0.055 * len(names)
    for a, b in itertools.combinations(place_C2, 2):
        assert abs(a[0] - b[0]) > 0.077 or abs(a[1] - b[1]) > 0.05
    alone = np.abs(centre_C2[:, None, 0] - centre_C2[:, 0]) + np.eye(len(names)) > 0.08
    assert place_C2[alone.all(1)] == pytest.approx(centre_C2[alone.all(1)])


# The whole way.

STUDY = """
name = "tiny"
spaces = [
    { name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 },
    { name = "ldnn", model = "LDNN", features = "mfccs" },
]
[partition]
train = 60
validation = 15
test = 25
[training]
epochs = 2
maps = 4
cells = 4
dense = [6]
learning_rate = 0.01
"""


def train(folder: Path, store: Store, study: str = STUDY) -> Run:
    (folder / "study.toml").write_text(study)
    run = start_run(folder / "run", load_study(folder / "study.toml"), store.path)
    data = open_dataset(run.store, run.partition)
    for trial in run.agenda().left:
        run_trial(trial, data, attempt=run.ledger.begin(trial))
    return run


@pytest.fixture(scope="module")
def trained(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = train(tmp_path_factory.mktemp("probed"), tiny_store)
    make_report(run, lambda words: None)
    probe(run, "clean", lambda words: None, 1)
    return run


def winners_of(run: Run, condition: str) -> list[Winner]:
    return [winner for winner in select_winners(run).winners if winner.condition == condition]


def representations(run: Run, winner: Winner) -> Path:
    return run.path / "probe" / f"{winner.key}-{winner.condition}.parquet"


def test_the_table_has_each_utterance_and_what_the_model_answers(trained: Run) -> None:
    for winner in winners_of(trained, "clean"):
        made = pq.read_table(representations(trained, winner)).to_pandas()
        lengths = {part: len(made[made["part"] == part]) for part in ("train", "validation", "test")}
        # Four, one and one speakers x three emotions x two utterances; two noisy copies of those of the test.
        assert lengths == {"train": 24, "validation": 6, "test": 18}
        assert made[made["part"] != "test"]["noise"].isna().all()
        assert set(made[made["part"] == "test"]["speaker"]) == set(trained.partition.test)
        assert ("cnn" in made) == bool(winner.configuration.kernels)
        assert len(made["blstm"][0]) == 8
        tested = pq.read_table(trained.path / "test" / f"{winner.key}-clean.parquet").to_pandas()
        answers = made[made["snr_db"].isna() & (made["part"] == "test")].set_index("utterance")["mlp"]
        for utterance, predicted in zip(tested["utterance"], tested["predicted"], strict=True):
            assert sum(answers[utterance]) == pytest.approx(1, abs=1e-5)
            assert trained.store.emotions[int(np.argmax(answers[utterance]))] == predicted


def test_rows_are_read_as_they_are_asked_for(trained: Run) -> None:
    file = representations(trained, winners_of(trained, "clean")[0])
    found = Representations.read(trained.storage, f"probe/{file.name}")
    assert pq.ParquetFile(file).num_row_groups == 3
    for module in found.modules:
        whole = np.array(pq.read_table(file, columns=[module])[module].to_pylist(), np.float32)
        column = found.column(module)
        assert column.shape == whole.shape
        for rows in ([47, 0, 29, 30, 24, 0], [], range(48)):
            np.testing.assert_array_equal(column[np.array(rows, np.int64)], whole[np.array(rows, np.int64)])


def test_a_second_call_opens_nothing_and_gives_the_same_bits(trained: Run) -> None:
    openings = {path: path.read_bytes() for path in (trained.path / "openings").iterdir()}
    opened = [json.loads(content) for content in openings.values()]
    assert [each["utterances"] for each in opened if each["by"] == "probe"] == [18, 18]
    before = {file: file.read_bytes() for file in (trained.path / "probe").iterdir()}
    assert len(before) == 5
    assert all(len(row.opened) == 1 for row in read_report(trained).rows)
    told: list[str] = []
    probe(trained, "clean", told.append, 1)
    assert len(told) == 3
    assert {file: file.read_bytes() for file in (trained.path / "probe").iterdir()} == before
    assert {path: path.read_bytes() for path in (trained.path / "openings").iterdir()} == openings
    winner = winners_of(trained, "clean")[0]
    file = representations(trained, winner)
    content = before[file]
    file.unlink()
    file.with_suffix(".json").unlink()
    write_representations(trained, winner, record_ledger(trained, select_winners(trained)))
    assert {file: file.read_bytes() for file in (trained.path / "probe").iterdir()} == before
    file.write_bytes(content[:-1])
    said = refused("probe", trained.path)
    assert f"{file} is damaged (its hash is not the one on record): delete it and" in said
    file.write_bytes(content)


def test_figures_are_a_page_a_model_and_one_of_noise(trained: Run) -> None:
    facts = read_report(trained)
    assert facts.probed
    alone = replace(facts, rows=(), robustness=(), board=replace(facts.board, candidates=()))
    drawn = dict(figures(alone))
    assert {name.removesuffix(".svg") for name in drawn if name.endswith(".svg")} == {
        f"modules-{findings.condition}-{rest}"
        for findings in facts.probed
        for rest in ("fst-FST-CLDNN-log-mels", "ldnn-LDNN-mfccs")
    } | {f"modules-noise-{findings.condition}" for findings in facts.probed}
    page_of_fst = drawn["modules-clean-fst-FST-CLDNN-log-mels.svg"].decode()
    for words in ("CNN", "BLSTM", "MLP", "emotion", "speaker", "gender"):
        assert f">{words}<" in page_of_fst
    assert page_of_fst.count(">ρ = ") == 9
    assert drawn["modules-clean-ldnn-LDNN-mfccs.svg"].decode().count(">ρ = ") == 6


def test_another_process_would_find_the_same(trained: Run) -> None:
    told: list[str] = []
    found = probe(trained, "noisy", told.append, 1)
    first, *others = told
    assert first.startswith("2 winners under the noisy condition")
    assert others == ["1/2 LDNN (mfccs), ldnn", "2/2 FST-CLDNN (log-mels), fst"]
    board = select_winners(trained)
    winner = winners_of(trained, "noisy")[0]
    sent = pickle.loads(pickle.dumps((ProbeWinner(trained, record_ledger(trained, board)), winner)))
    assert sent[0](sent[1]) == ((winner.key,), found.winners[0].modules)
    assert [each.condition for each in read_findings(trained, board.winners)] == ["noisy", "clean"]
    assert read_findings(trained, board.winners)[0] == found


def test_the_page_names_an_utterance_and_marks_it_in_every_panel(
    trained: Run,
    tmp_path: Path,
    browser: webdriver.Chrome,  # noqa: F811
) -> None:
    (tmp_path / "report.html").write_text(page(read_report(trained)))
    for width in (1280, 390):
        resize(browser, width)
        browser.get((tmp_path / "report.html").as_uri())
        assert len(browser.find_elements(By.CSS_SELECTOR, "#modules-winner option")) >= 3
        first = browser.find_element(By.CSS_SELECTOR, "#modules-panels circle[data-of='5']")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
        ActionChains(browser).move_to_element(first).perform()
        of = int(browser.find_element(By.CSS_SELECTOR, ".marked").get_attribute("data-of") or "")
        findings = read_findings(trained, select_winners(trained).winners)[-1]
        spoken = findings.utterance[of], findings.labels["speaker"][of]
        assert browser.find_element(By.ID, "modules-name").text.startswith(f"{spoken[0]}: emotion ")
        assert f"speaker {spoken[1]}" in browser.find_element(By.ID, "modules-name").text
        panels = len(browser.find_elements(By.CSS_SELECTOR, "#modules-panels figure"))
        assert panels == len(browser.find_elements(By.CSS_SELECTOR, ".marked"))
        assert len(browser.find_elements(By.CSS_SELECTOR, "#modules-panels circle")) == panels * len(findings.utterance)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.get_log("browser") == []


def test_wrong_input_is_said_in_a_line(trained: Run, tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    unfinished = start_run(tmp_path / "run", load_study(tmp_path / "study.toml"), tiny_store.path)
    assert "0 of 2 trials are done, and the test speakers stay sealed" in refused("probe", unfinished.path)
    assert not (unfinished.path / "test").exists()
    damaged = Path(shutil.copytree(trained.path, tmp_path / "damaged"))
    (damaged / "probe" / "probe-clean.json").write_text("{}")
    assert "is damaged or of another version" in refused("report", damaged)


def test_findings_of_former_winners_are_not_shown(trained: Run) -> None:
    others = [winner for winner in select_winners(trained).winners if winner.candidates.space != "fst"]
    assert all(winner.space == "ldnn" for findings in read_findings(trained, others) for winner in findings.winners)
    assert read_findings(trained, []) == ()


def test_real_speech_tells_speakers_apart_and_the_answer_much_less(ravdess: Path, tmp_path: Path) -> None:
    corpus = read_corpus("ravdess", ravdess, ("anger", "sadness"))
    some = tuple(each for each in corpus.utterances if int(each.speaker) <= 5)
    store = build_store(tmp_path / "store", type(corpus)(**vars(corpus) | {"utterances": some}), None, noises=0, snrs=0)
    alone = "\n".join(line for line in STUDY.splitlines() if "mfccs" not in line)
    run = train(tmp_path, store, alone)
    done = CliRunner().invoke(app, ["probe", str(run.path), "--format", "json"])
    assert done.exit_code == 0, done.output
    kept = json.loads((run.path / "probe" / "probe-clean.json").read_text())
    assert kept == json.loads(done.stdout) | {"digest": kept["digest"]}
    (findings,) = read_findings(run, select_winners(run).winners)
    (found,) = findings.winners
    raw, mlp = found.module("raw"), found.module("mlp")
    assert raw
    assert mlp
    assert raw.accuracy["speaker"].ua > 80
    assert raw.accuracy["speaker"].p_value == 1 / 500
    assert mlp.accuracy["speaker"].ua < raw.accuracy["speaker"].ua - 20
    assert raw.noise == (), "there is no noise in the store"
    report = run.path / "report"
    written = (report / "leaderboard.md").read_text()
    assert all(table(sheet) in written for sheet in sheets_of(findings))
    assert "tab:modules-clean" in (report / "leaderboard.tex").read_text()
    for form in ("pdf", "png", "svg"):
        assert (report / "figures" / f"modules-clean-fst-FST-CLDNN-log-mels.{form}").stat().st_size > 0
    assert "no model with modules to probe won under the noisy condition" in refused(
        "probe", run.path, "--condition", "noisy"
    )


def test_help_shows_an_example() -> None:
    assert "Example: sersearch probe" in works("probe", "--help")
