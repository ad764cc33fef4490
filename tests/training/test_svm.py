"""The SVM baseline against scikit-learn's own kernels and literal loops, for leaks, and through a real search."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sersearch.errors import InputError
from sersearch.evaluation.test_partition import read_predictions
from sersearch.models.svm import KERNELS, Kernel, classify, decide, kernel_matrix, standardise, standardise_by
from sersearch.report.folder import read_report
from sersearch.report.sheets import evidence, leaderboards
from sersearch.run.ledger import Result
from sersearch.run.run import open_run, start_run
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.reader import VectorSet, open_vector_set
from sersearch.store.vectors.table import import_table
from sersearch.study.configuration import SVMConfiguration
from sersearch.study.fold import Fold
from sersearch.study.study import load_study, parse_study
from sersearch.study.trial import Folds, StoreIdentity, make_trials
from sersearch.training import svm
from sersearch.training.rerun import rerun
from sersearch.training.svm import (
    Vectors,
    multiply,
    open_vectors,
    standardise_by_others,
    standardise_speakers,
    take_speakers,
)
from sersearch.training.system import run_trial
from tests.trials import make_trial

EMOTIONS = ("anger", "happiness", "sadness")


def functionals(
    x_UD: np.ndarray, speakers: int, emotion_U: np.ndarray | None = None, seed: int = 0
) -> tuple[VectorSet, np.ndarray]:
    """Vectors of so many speakers, each with as many utterances, of random emotions unless given."""
    count = len(x_UD)
    emotion = np.random.default_rng(seed).integers(0, 3, count) if emotion_U is None else emotion_U
    speaker = np.repeat([f"s{number:02}" for number in range(speakers)], count // speakers)
    ids = tuple(f"u{number:04}" for number in range(count))
    names = tuple(f"f{number}" for number in range(x_UD.shape[1]))
    return VectorSet("own", names, x_UD, ids, speaker, np.full(count, "female"), emotion, "0" * 16), emotion


def make_vectors(vector_set: VectorSet) -> Vectors:
    content = hashlib.sha256(vector_set.x_UD.tobytes()).hexdigest()
    return multiply(standardise_speakers(vector_set), EMOTIONS, content)


def vectors(x_UD: np.ndarray, speakers: int, emotion_U: np.ndarray | None = None, seed: int = 0) -> Vectors:
    return make_vectors(functionals(x_UD, speakers, emotion_U, seed)[0])


def of_speakers(found: Vectors, speakers: list[str]) -> Vectors:
    """Those of some of the speakers."""
    at = found.rows(speakers)
    ids = tuple(found.utterance[index] for index in at)
    products = found.products_UU[np.ix_(at, at)]
    return Vectors(products, found.dimensions, found.speaker_U[at], found.emotion_U[at], ids, found.emotions)


def fit_fold(configuration: SVMConfiguration, found: Vectors, fold: Fold) -> Result:
    return run_trial(make_trial(configuration, fold=fold), of_speakers(found, list(fold.learnt)))


def fitted(found: Vectors, protocol: str, **settings: object) -> Result:
    """Of the partition the last two speakers validate."""
    configuration = SVMConfiguration.model_validate(
        {"model": "SVM", "features": "own", "protocol": protocol, **settings}
    )
    speakers = tuple(np.unique(found.speaker_U).tolist())
    if protocol == "loso":
        return fit_fold(configuration, found, Fold(train=speakers, validation=(), test=("nobody here",)))
    return fit_fold(configuration, found, Fold(train=speakers[:-2], validation=speakers[-2:]))


def predicted_classes(
    configuration: SVMConfiguration, found: Vectors, train: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Classes of the utterances that were not learnt from: true, and predicted by a fit to some speakers."""
    known = found.rows(train)
    others = np.setdiff1d(np.arange(len(found.utterance)), known)
    predicted = classify(found.kernel(configuration), found.emotion_U, known, others, configuration.C)
    return found.emotion_U[others], predicted


def informative(speakers: int = 6, utterances: int = 15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    emotion = np.tile(np.arange(3), speakers * utterances // 3)
    means = generator.standard_normal((3, 8))
    voices = np.repeat(10 * generator.standard_normal((speakers, 8)), utterances, axis=0)
    return voices + means[emotion] + 0.7 * generator.standard_normal((len(emotion), 8)), emotion


def test_kernels_are_scikit_learns() -> None:
    x = np.random.default_rng(0).standard_normal((20, 7))
    assert kernel_matrix(x, "linear") == pytest.approx(x @ x.T / 7)
    assert kernel_matrix(x, "polynomial", 2.0, 3) == pytest.approx(polynomial_kernel(x, degree=3, gamma=2 / 7, coef0=0))
    assert kernel_matrix(x, "rbf", 0.5) == pytest.approx(rbf_kernel(x, gamma=0.5 / 7))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_decision_values_are_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    emotion = np.tile(np.arange(classes), 20)
    x = generator.standard_normal((len(emotion), 5)) + 0.5 * np.eye(classes, 5)[emotion]
    kernel_UU = kernel_matrix(x, "rbf")
    train, others = np.split(generator.permutation(len(emotion)), 2)
    predicted_U, values = decide(kernel_UU, emotion, train, others, 2.0)
    machine = SVC(C=2.0, kernel="precomputed", class_weight="balanced").fit(
        kernel_UU[np.ix_(train, train)], emotion[train]
    )
    expected = machine.decision_function(kernel_UU[np.ix_(others, train)])
    assert (predicted_U == machine.predict(kernel_UU[np.ix_(others, train)])).all()
    values_UK = np.stack([values[number] for number in range(classes)], 1)
    if classes == 2:
        assert ((values_UK[:, 1] > values_UK[:, 0]) == (expected > 0)).all()
    else:
        assert values_UK == pytest.approx(expected, abs=1e-12)


def test_a_class_that_nobody_showed_in_training_has_no_decision_value() -> None:
    x, emotion = informative()
    kernel_UU = kernel_matrix(x, "linear")
    train, others = np.flatnonzero(emotion < 2)[:20], np.arange(5)
    assert set(decide(kernel_UU, emotion, train, others, 1.0)[1]) == {0, 1}
    only = np.flatnonzero(emotion == 2)[:5]
    predicted_U, values = decide(kernel_UU, emotion, only, others, 1.0)
    assert predicted_U.tolist() == [2] * 5
    assert set(values) == {2}


@pytest.mark.parametrize(
    ("kernel", "literal"),
    [
        ("linear", SVC(C=2 / 8, kernel="linear", class_weight="balanced")),
        ("polynomial", SVC(C=2, kernel="poly", gamma=0.5 / 8, class_weight="balanced")),
        ("rbf", SVC(C=2, kernel="rbf", gamma=0.5 / 8, class_weight="balanced")),
    ],
)
def test_leaving_one_subject_out_is_the_literal_loop(kernel: Kernel, literal: SVC) -> None:
    x, emotion = informative()
    found = fitted(vectors(x, 6, emotion), "loso", kernel=kernel, C=2, gamma=0.5)
    speaker = np.repeat(np.arange(6), 15)
    own = [x[speaker == s] for s in range(6)]
    scaled = np.concatenate([(part - part.mean(0)) / part.std(0) for part in own])
    predicted = np.empty_like(emotion)
    for s in range(6):
        predicted[speaker == s] = (
            literal.fit(scaled[speaker != s], emotion[speaker != s]).predict(scaled[speaker == s])
        )  # fmt: skip
    assert found.ua("clean") == pytest.approx(100 * balanced_accuracy_score(emotion, predicted))
    for s, counts in enumerate(found.confusion["clean"].values()):
        assert np.trace(counts) == np.sum((predicted == emotion)[speaker == s])


def test_the_partition_learns_from_its_training_part() -> None:
    x, emotion = informative()
    found = vectors(x, 6, emotion)
    result = fitted(found, "partition", kernel="rbf", C=3)
    assert list(result.confusion["clean"]) == ["s04", "s05"]
    configuration = SVMConfiguration(model="SVM", features="own", kernel="rbf", C=3)
    tested, predicted = predicted_classes(configuration, found, ["s00", "s01", "s02", "s03"])
    assert result.ua("clean") == pytest.approx(100 * balanced_accuracy_score(tested, predicted))
    assert result.ua("clean") > 60, "the planted emotions are learnt"
    labels = found.emotion_U[found.rows(["s00", "s01", "s02", "s03"])]
    machine = SVC(C=3, kernel="precomputed", class_weight="balanced")
    known = found.rows(["s00", "s01", "s02", "s03"])
    machine.fit(found.kernel(configuration)[np.ix_(known, known)], labels)
    support = len(machine.support_)
    assert result.parameters == support * 8 + 2 * support + 3, "vectors, two weights per vector, three thresholds"


def test_standardised_by_the_training_speakers_it_is_scikit_learns_pipeline() -> None:
    x, emotion = informative()
    vector_set, _ = functionals(x, 6, emotion)
    speakers = tuple(sorted(set(np.asarray(vector_set.speaker).tolist())))
    train, validation = speakers[:4], speakers[4:]
    scaled = standardise_by_others(take_speakers(vector_set), train)
    data = multiply(scaled, EMOTIONS, hashlib.sha256(b"by corpus").hexdigest())
    configuration = SVMConfiguration(model="SVM", features="own", kernel="rbf", C=3, standardisation="corpus")
    result = run_trial(make_trial(configuration, fold=Fold(train=train, validation=validation)), data)
    known = np.isin(vector_set.speaker, train)
    literal = make_pipeline(StandardScaler(), SVC(C=3, kernel="rbf", gamma=1 / 8, class_weight="balanced"))
    predicted = literal.fit(x[known], emotion[known]).predict(x[~known])
    assert result.ua("clean") == pytest.approx(100 * balanced_accuracy_score(emotion[~known], predicted))
    assert result.trial.key != make_trial(configuration.model_copy(update={"standardisation": "speaker"})).key
    # Voices as far apart as these are what standardising by speaker is for.
    assert result.ua("clean") < fitted(make_vectors(vector_set), "partition", kernel="rbf", C=3).ua("clean")


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_standardisation_uses_a_speakers_own_utterances_only(seed: int, others: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((12, 3)) * generator.uniform(0.1, 100, 3)
    speaker = np.repeat([0, 1], 6)
    scaled = standardise(x, speaker)
    assert scaled[:6].mean(0) == pytest.approx(0, abs=1e-9)
    assert scaled[:6].std(0) == pytest.approx(1)
    changed = x.copy()
    changed[6:] *= 1 + others
    assert (standardise(changed, speaker)[:6] == scaled[:6]).all()
    assert standardise_by(x[:2], x[6:]) == pytest.approx((x[:2] - x[6:].mean(0)) / x[6:].std(0))


def test_what_tells_nothing_or_is_not_finite_becomes_nothing() -> None:
    x = np.array([[1.0, 0.1, np.nan, 1e30], [2.0, 0.1, 3.0, np.inf], [3.0, 0.1, 5.0, -1e30]])
    scaled = standardise(x)
    assert scaled[:, 0] == pytest.approx([-1.224745, 0, 1.224745], abs=1e-6)
    assert (scaled[:, 1] == 0).all()
    assert scaled[:, 2] == pytest.approx([0, -1, 1])
    assert np.isfinite(scaled).all()


def test_a_product_depends_on_its_two_speakers_alone() -> None:
    x = np.random.default_rng(0).standard_normal((40, 501))
    made, _ = functionals(x, 4)
    some = VectorSet(
        "own", made.names, x[10:30], made.utterance[10:30], made.speaker[10:30], made.gender[10:30],
        made.emotion[10:30], made.digest,
    )  # fmt: skip
    assert (make_vectors(made).products_UU[10:30, 10:30] == make_vectors(some).products_UU).all()


@pytest.mark.parametrize("protocol", ["partition", "loso"])
def test_shuffled_labels_give_chance(protocol: str) -> None:
    x, emotion = informative(speakers=8, utterances=30)
    found = []
    for seed in range(8):
        shuffled = np.random.default_rng(seed).permutation(emotion)
        found.append(fitted(vectors(x, 8, shuffled), protocol, kernel="rbf", C=10).ua("clean"))
    # Of 8 x 240 or 8 x 60 guesses: within four standard errors.
    assert abs(np.mean(found) - 100 / 3) < 4 * 47 / np.sqrt(8 * (240 if protocol == "loso" else 60))


@pytest.mark.parametrize("protocol", ["partition", "loso"])
def test_a_feature_that_names_the_speaker_gains_nothing(protocol: str) -> None:
    x, emotion = informative()
    speaker = np.repeat(np.arange(6), 15)
    named = np.concatenate([x, 1000.0 * np.eye(6)[speaker], speaker[:, None] ** 2.0], axis=1)
    with_names, without = vectors(named, 6, emotion), vectors(x, 6, emotion)
    assert with_names.products_UU * 15 == pytest.approx(without.products_UU * 8)
    # The same products but for the scale of C.
    plain = fitted(without, protocol, kernel="linear", C=1)
    assert fitted(with_names, protocol, kernel="linear", C=15 / 8).confusion == plain.confusion


@pytest.mark.parametrize("protocol", ["partition", "loso"])
def test_functionals_that_tell_nothing_change_nothing(protocol: str) -> None:
    x, emotion = informative()
    count = len(x)
    useless = np.column_stack([np.full(count, 5.5), np.full(count, np.nan), np.full(count, -np.inf), np.zeros(count)])
    plain = fitted(vectors(x, 6, emotion), protocol, kernel="linear", C=1)
    # The same products but for the scale of C.
    joined = vectors(np.concatenate([x, useless], axis=1), 6, emotion)
    assert fitted(joined, protocol, kernel="linear", C=12 / 8).confusion == plain.confusion
    for kernel in ("linear", "polynomial", "rbf"):
        counts = np.sum(
            list(fitted(vectors(useless, 6, emotion), protocol, kernel=kernel).confusion["clean"].values()), 0
        )
        assert counts.sum() == (90 if protocol == "loso" else 30), "each utterance is answered"


@pytest.mark.parametrize("protocol", ["partition", "loso"])
def test_an_utterance_too_short_for_its_functionals_is_answered(protocol: str) -> None:
    x, emotion = informative()
    x[[3, 40, 80]] = np.nan
    found = fitted(vectors(x, 6, emotion), protocol, kernel="rbf", C=3)
    assert np.sum(list(found.confusion["clean"].values())) == (90 if protocol == "loso" else 30)
    assert found.ua("clean") > 60, "the others are learnt all the same"


def test_choosing_the_best_of_many_leaks_nothing() -> None:
    """Shuffled labels, the nested choice as in a search: tested at chance, and above it if chosen on what is tested."""
    x, emotion = informative()
    grid = [
        SVMConfiguration(model="SVM", features="own", kernel=k, C=c, protocol="loso")
        for k in KERNELS
        for c in (0.3, 30)
    ]
    names = [f"s{number:02}" for number in range(6)]
    nested, cheated = [], []
    for seed in range(6):
        found = vectors(x, 6, np.random.default_rng(seed).permutation(emotion))
        for left_out in names:
            others = [name for name in names if name != left_out]
            fold = Fold(train=tuple(others), validation=(), test=(left_out,))
            inner = [fit_fold(each, found, fold).ua("clean") for each in grid]
            tests = [predicted_classes(each, found, others) for each in grid]
            ua = [100 * float(np.mean(tested == predicted)) for tested, predicted in tests]
            nested.append(ua[int(np.argmax(inner))])
            cheated.append(max(ua))
    bound = 4 * 47 / np.sqrt(6 * 90)
    assert abs(np.mean(nested) - 100 / 3) < bound
    assert np.mean(cheated) - 100 / 3 > bound


def test_a_class_that_a_fold_lacks() -> None:
    emotion = np.concatenate([np.tile([0, 1], 15), np.tile([0, 1, 2], 10), np.zeros(30, np.int64)])
    x = np.random.default_rng(0).standard_normal((90, 4)) + np.eye(4)[emotion]
    result = fitted(vectors(x, 6, emotion), "loso", kernel="rbf")
    counts = np.array(list(result.confusion["clean"].values()))
    assert counts.sum() == 90
    assert counts[:, 2].sum() == 10
    kernel = kernel_matrix(standardise(x), "rbf")
    assert (classify(kernel, emotion, np.arange(60, 90), np.arange(5), 1.0) == 0).all(), "one class alone"


def test_a_kernels_unused_numbers_make_no_configuration() -> None:
    study = parse_study(
        {"name": "x", "spaces": [{"name": "s", "model": "SVM", "features": ["IS09"], "kernel": ["linear", "rbf"],
         "C": [1, 10], "gamma": [0.3, 1], "protocol": ["partition", "loso"]}]}, "x.toml"
    )  # fmt: skip
    (space,) = study.spaces
    found = list(space.enumerate({"epochs": 3}))
    assert len(found) == 2 * (2 + 4)
    identity = StoreIdentity(fingerprint="d", speakers=("s0", "s1", "s2"), vectors={"IS09": "a"})
    folds = Folds(identity.speakers, study.partition)
    trials = [trial for made in found for trial in make_trials(made, 5, identity, folds)]
    assert len({trial.key for trial in trials}) == len(trials) == 6 * (1 + 3)
    other = StoreIdentity(fingerprint="d", speakers=identity.speakers, vectors={"IS09": "b"})
    assert not {t.key for t in trials} & {t.key for made in found for t in make_trials(made, 5, other, folds)}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            {"model": ["SVM", "LDNN"], "features": "IS09"},
            "SVM and LDNN have different parameters: give LDNN a space of its own",
        ),
        ({"model": "SVM"}, "features is missing"),
        ({"model": "SVM", "features": "IS09", "w1": 3}, "w1 is not a parameter of SVM"),
        ({"model": "LDNN", "gamma": 3.0}, "gamma is not a parameter of LDNN"),
        ({"model": "SVM", "features": "IS09", "C": -1.0}, "greater than 0"),
        ({"model": "SVM", "features": "IS09", "kernel": "cubic"}, "'linear', 'polynomial' or 'rbf'"),
    ],
)
def test_spaces_that_make_no_sense_are_one_line(space: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        parse_study({"name": "x", "spaces": [{"name": "s", **space}]}, "x.toml")
    assert "\n" not in str(error.value)


STUDY = """
[[spaces]]
name = "svm"
model = "SVM"
features = ["own", "noise"]
kernel = ["linear", "rbf"]
C = [0.1, 1, 10]
protocol = ["partition", "loso"]
[[spaces]]
name = "ldnn"
model = "LDNN"
cells = 4
dense = [4]
epochs = 1
[partition]
train = 50
validation = 25
test = 25
"""


@pytest.fixture(scope="module")
def store(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny store with two tables of a user: of her own making, and noise."""
    folder = tmp_path_factory.mktemp("svm")
    shutil.copytree(tiny_store.path, folder / "store")
    found = open_store(folder / "store")
    generator = np.random.default_rng(0)
    rows = [row for speaker in found.speakers for row in found.table(speaker.speaker).to_pylist() if not row["noise"]]
    for name, gain in (("own", 2.0), ("noise", 0.0)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["utterance", "a", "b", "c"])
            for row in rows:
                planted = gain * np.eye(3)[found.emotions.index(row["emotion"])]
                writer.writerow([row["utterance"], *(planted + generator.standard_normal(3)).tolist()])
        import_table(found, name, folder / f"{name}.csv")
    (folder / "study.toml").write_text(STUDY)
    return found


def sersearch(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sersearch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(store: Store) -> Path:
    run = store.path.parent / "plain"
    done = sersearch("search", store.path.parent / "study.toml", "--store", store.path, "--run", run)
    assert done.returncode == 0, done.stderr
    assert sersearch("report", run).returncode == 0
    return run


@pytest.mark.slow("it runs two searches with the real Ray and kills one")
def test_a_search_that_is_killed_gives_the_same_tables(store: Store, finished: Path) -> None:
    run = store.path.parent / "killed"
    command = [sys.executable, "-m", "sersearch", "search", store.path.parent / "study.toml"]
    driver = subprocess.Popen([*map(str, command), "--store", str(store.path), "--run", str(run)],
                              start_new_session=True, stderr=subprocess.DEVNULL)  # fmt: skip
    while len(list(run.glob("trials/*/result.json"))) < 20 and driver.poll() is None:
        time.sleep(0.005)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in run.glob("trials/*/result.json")}
    assert before
    assert sersearch("resume", run).returncode == 0
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert sersearch("report", run).returncode == 0
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert (run / "report" / name).read_bytes() == (finished / "report" / name).read_bytes()
    assert json.loads(sersearch("status", run, "--verify", "--format", "json").stdout)["faults"] == 0


def test_table_3_has_its_evidence(store: Store, finished: Path) -> None:
    facts = read_report(open_run(finished))
    cells = {(row.winner.features, row.winner.candidates.protocol): row for row in facts.baselines}
    assert set(cells) == {(name, protocol) for name in ("own", "noise") for protocol in ("partition", "loso")}
    for (features, protocol), row in cells.items():
        assert len(row.winner.candidates.results) == 6
        assert row.test
        assert {choice.configuration.features for choice in row.winner.choices} == {features}
        assert [choice.fold.name for choice in row.winner.choices] == (
            [f"without {info.speaker}" for info in store.speakers] if protocol == "loso" else [""]
        )
        assert row.test.overall.utterances == (36 if protocol == "loso" else 6)
    own, noise = (cells[name, "loso"].test for name in ("own", "noise"))
    assert own
    assert noise
    assert own.overall.ua > noise.overall.ua + 15
    (sheet,) = [sheet for sheet in evidence(facts) if sheet.name == "baselines"]
    assert len(sheet.rows) == 2
    openings = [json.loads(path.read_text()) for path in (finished / "openings").iterdir()]
    assert len(openings) == len({(o["key"], o["condition"]) for o in openings}) == 2 * (1 + 6) + 2


def test_table_3_is_scikit_learns_nested_loop(store: Store, finished: Path) -> None:
    """Each speaker left out: configurations ranked by leaving out each of the others, the best asked of the speaker."""
    read = open_vector_set(store, "own")
    x = np.concatenate([StandardScaler().fit_transform(read.x_UD[read.speaker == s]) for s in np.unique(read.speaker)])
    grid = {(k, C): SVC(kernel=k, C=C / 3 if k == "linear" else C, gamma=1 / 3, class_weight="balanced")
            for k in ("linear", "rbf") for C in (0.1, 1, 10)}  # fmt: skip
    run = open_run(finished)
    (loso,) = [
        row.winner
        for row in read_report(run).baselines
        if (row.winner.features, row.winner.candidates.protocol) == ("own", "loso")
    ]
    for choice, table in zip(loso.choices, read_predictions(run, loso), strict=True):
        (winner,) = choice.results
        (left_out,) = choice.fold.test
        rest = read.speaker != left_out
        labels, groups = read.emotion[rest], read.speaker[rest]
        ua = {}
        for name, machine in grid.items():
            predicted = cross_val_predict(machine, x[rest], labels, groups=groups, cv=LeaveOneGroupOut())
            ua[name] = 100 * balanced_accuracy_score(labels, predicted)
        configuration = winner.trial.configuration
        assert isinstance(configuration, SVMConfiguration)
        assert winner.ua("clean") == pytest.approx(max(ua.values()))
        assert ua[configuration.kernel, configuration.C] == pytest.approx(max(ua.values()))
        machine = grid[configuration.kernel, configuration.C].fit(x[rest], labels)
        expected = dict(zip(np.array(read.utterance)[~rest], machine.predict(x[~rest]), strict=True))
        tested = table.to_pylist()
        assert len(tested) == 6
        assert {row["utterance"]: store.emotions.index(row["predicted"]) for row in tested} == expected


def test_the_best_svm_enters_the_leaderboard(finished: Path) -> None:
    facts = read_report(open_run(finished))
    (winner,) = [row.winner for row in facts.rows if row.winner.candidates.model == "SVM"]
    assert winner.condition == "clean"
    assert len(winner.candidates.results) == 12
    best = max(row.winner.validation_ua for row in facts.baselines if row.winner.candidates.protocol == "partition")
    assert winner.validation_ua == best
    (clean,) = [sheet for sheet in leaderboards(facts) if sheet.name == "leaderboard-clean"]
    assert any(f"SVM ({winner.features})" in row for row in clean.rows)
    assert len(facts.rankings["clean"].order) == 2


def test_a_row_is_trained_again_to_the_same_bits(finished: Path) -> None:
    run = open_run(finished)
    for row in read_report(run).baselines:
        assert rerun(run, row.winner.key).same


def test_a_set_that_is_missing_or_changed_is_named(tiny_store: Store, store: Store, tmp_path: Path) -> None:
    study = load_study(store.path.parent / "study.toml")
    with pytest.raises(InputError, match=r"features = own was given, but .* holds no vectors"):
        start_run(tmp_path / "run", study, tiny_store.path)
    shutil.copytree(store.path, tmp_path / "store")
    start_run(tmp_path / "run", study, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "vectors" / "own")
    with (store.path.parent / "own.csv").open() as file:
        lines = file.read().splitlines()
    (tmp_path / "own.csv").write_text("\n".join([lines[0], *(line + "1" for line in lines[1:])]))
    import_table(open_store(tmp_path / "store"), "own", tmp_path / "own.csv")
    with pytest.raises(InputError, match=r"vectors own was .* name a new run folder"):
        start_run(tmp_path / "run", study, tmp_path / "store")
    run = open_run(tmp_path / "run")
    trial = next(trial for trial in run.agenda().left if trial.configuration.features == "own")
    # Speakers that were read before are kept by their content.
    svm._SPEAKERS.clear()
    with pytest.raises(InputError, match="are not those that the run"):
        open_vectors(run.store, trial, ["s0"])
