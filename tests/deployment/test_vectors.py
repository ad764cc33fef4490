"""An exported support vector machine decides as the run's own did."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.deployment.export import export_model
from sersearch.deployment.prediction import predict_files
from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.test_partition import read_predictions
from sersearch.models.svm import KERNELS, Kernel, SupportVectors, decide, kernel_matrix
from sersearch.run.run import Run
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.store.vectors.opensmile import extract_functionals
from sersearch.store.vectors.table import import_table
from tests.deployment.conftest import train

STUDY = """
name = "machines"
spaces = [
    { name = "speaker", model = "SVM", features = "eGeMAPSv02", kernel = "rbf", C = 10 },
    { name = "corpus", model = "SVM", features = "eGeMAPSv02", standardisation = "corpus", kernel = "rbf" },
    { name = "own", model = "SVM", features = "own", standardisation = "corpus" },
]
search = { objective = "clean" }
[partition]
train = 34
validation = 33
test = 33
"""


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_support_vectors_decide_as_the_machine_does(kernel: Kernel, classes: int) -> None:
    generator = np.random.default_rng(classes)
    label = np.tile(np.arange(classes), 25)
    x = generator.standard_normal((len(label), 6)) + 0.7 * np.eye(classes, 6)[label]
    train, others = np.split(generator.permutation(len(label)), [40])
    kernel_UU = kernel_matrix(x, kernel, 0.7, 2)
    expected, values = decide(kernel_UU, label, train, others, 3.0)
    machine = SupportVectors.train(x[train], kernel_UU[np.ix_(train, train)], label[train], 3.0)
    predicted, found = machine.decide(x[others], kernel, 0.7, 2)
    assert (predicted == expected).all()
    assert found == pytest.approx(np.stack(list(values.values()), 1), abs=1e-9)


def test_one_class_alone_is_always_predicted() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    machine = SupportVectors.train(x, kernel_matrix(x, "linear"), np.full(5, 2), 1.0)
    predicted, values = machine.decide(x, "linear", 1.0, 1)
    assert predicted.tolist() == [2] * 5
    assert values.shape == (5, 1)


@pytest.fixture(scope="module")
def run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    pytest.importorskip("opensmile", reason="openSMILE is missing: pip install 'sersearch[functionals]'")
    folder = tmp_path_factory.mktemp("machines")
    corpus = read_corpus("tiny", tiny_corpus)
    store = build_store(folder / "store", corpus, None, noises=0, snrs=0, workers=1)
    extract_functionals(store, corpus, ["eGeMAPSv02"], workers=1)
    with (folder / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "a", "b"])
        generator = np.random.default_rng(0)
        writer.writerows([each.id, *generator.standard_normal(2).tolist()] for each in corpus.utterances)
    import_table(store, "own", folder / "own.csv")
    return train(folder / "study", STUDY, Store(store.path, store.manifest))


@pytest.mark.slow("it extracts openSMILE's functionals")
def test_from_sound_to_the_runs_own_decisions(run: Run, tiny_corpus: Path, tmp_path: Path) -> None:
    """The order of sums is another one, so the last bits may differ."""
    test = set(run.partition.test)
    files = {each.id: each.path for each in read_corpus("tiny", tiny_corpus).utterances if each.speaker in test}
    spaces = set()
    for number, winner in enumerate(select_winners(run).baselines):
        if winner.features == "own":
            continue
        spaces.add(winner.candidates.space)
        record = export_model(run, winner.key, tmp_path / str(number))
        assert record.score == "decision"
        predicted = {row.path: row for row in predict_files(tmp_path / str(number), list(files.values()))}
        (table,) = read_predictions(run, winner)
        for row in table.to_pylist():
            found = predicted[files[row["utterance"]]]
            assert found.emotion == row["predicted"]
            decisions = [row[f"decision_{emotion}"] for emotion in run.store.emotions]
            assert found.scores == pytest.approx(decisions, abs=1e-6)
    assert spaces == {"speaker", "corpus"}


@pytest.mark.slow("it extracts openSMILE's functionals")
def test_scores_are_called_what_they_are(run: Run, tiny_corpus: Path, tmp_path: Path) -> None:
    winner = next(w for w in select_winners(run).baselines if w.candidates.space == "speaker")
    export_model(run, winner.key, tmp_path / "model")
    folder = next(tiny_corpus.glob("s0*"))
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "model"), str(folder), "--workers", "1"])
    assert done.exit_code == 0
    header = next(csv.reader(io.StringIO(done.stdout)))
    assert header == ["path", "emotion", *(f"decision_{emotion}" for emotion in run.store.emotions), "problem"]
    assert "are no probabilities" in done.stderr
    assert "1 folders are taken as one speaker each" in done.stderr
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "model"), str(folder), "--format", "json"])
    assert set(json.loads(done.stdout.splitlines()[0])) == {"path", "emotion", "decision_values"}
    card = (tmp_path / "model" / "README.md").read_text()
    assert "no products" in card
    assert "decision values" in card


@pytest.mark.slow("it extracts openSMILE's functionals")
def test_vectors_of_a_table_are_no_sound(run: Run, tiny_corpus: Path, tmp_path: Path) -> None:
    winner = next(w for w in select_winners(run).baselines if w.features == "own")
    export_model(run, winner.key, tmp_path / "model")
    with pytest.raises(InputError, match="the vectors own, which come from a table and not from sound"):
        list(predict_files(tmp_path / "model", [next(tiny_corpus.rglob("*.flac"))]))
    done = CliRunner().invoke(app, ["export", str(run.path), winner.key, str(tmp_path / "onnx"), "--onnx"])
    assert isinstance(done.exception, InputError)
    assert "only networks are written as ONNX" in str(done.exception)
