"""An exported network gives the run's own predictions again."""

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.deployment.classifier import open_model
from sersearch.deployment.export import export_model
from sersearch.deployment.prediction import predict_files
from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import Winner, select_winners
from sersearch.evaluation.test_partition import read_predictions
from sersearch.run.records import seal
from sersearch.run.run import Run, open_run
from sersearch.speech.corpora import read_corpus
from sersearch.store.reader import Store
from tests.deployment.conftest import NETWORKS, train

runner = CliRunner()


def winners_of(run: Run) -> list[Winner]:
    return [winner for winner in select_winners(run).winners if winner.condition == "clean"]


def files_of_test_speakers(run: Run, corpus: Path) -> dict[str, Path]:
    """The files of the test speakers by the ids of their utterances."""
    test = set(run.partition.test)
    return {each.id: each.path for each in read_corpus("tiny", corpus).utterances if each.speaker in test}


def posteriors_on_record(run: Run, winner: Winner) -> dict[str, list[np.float32]]:
    (table,) = read_predictions(run, winner)
    columns = [f"probability_{emotion}" for emotion in run.store.emotions]
    return {row["utterance"]: [np.float32(row[name]) for name in columns] for row in table.to_pylist()}


def test_from_sound_to_the_bits_of_the_runs_own_test(trained: Run, tiny_corpus: Path, tmp_path: Path) -> None:
    files = files_of_test_speakers(trained, tiny_corpus)
    for number, winner in enumerate(winners_of(trained)):
        folder = tmp_path / str(number)
        export_model(trained, winner.key[:8], folder)
        predicted = {row.path: row for row in predict_files(folder, list(files.values()))}
        on_record = posteriors_on_record(trained, winner)
        assert set(on_record) == set(files)
        for utterance, expected in on_record.items():
            row = predicted[files[utterance]]
            assert not row.problem
            assert [np.float32(score) for score in row.scores] == expected, "to the last bit"
            assert row.emotion == trained.store.emotions[int(np.argmax(expected))]


@pytest.mark.parametrize(
    "features", ['normalisation = "speaker"', 'normalisation = "utterance"\ndeltas = 2', "trim = true"]
)
def test_every_way_to_normalise_is_carried_along(
    features: str, tiny_store: Store, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Files of a test speaker lie in a folder of their own, and in the order of the store's rows."""
    run = train(tmp_path / "study", NETWORKS.replace("FEATURES", features), tiny_store)
    files = files_of_test_speakers(run, tiny_corpus)
    winner = winners_of(run)[0]
    export_model(run, winner.key, tmp_path / "model")
    predicted = {row.path: row for row in predict_files(tmp_path / "model", list(files.values()))}
    for utterance, expected in posteriors_on_record(run, winner).items():
        scores = [np.float32(score) for score in predicted[files[utterance]].scores]
        if "speaker" in features:
            # The speaker's sums may have been added in another order.
            assert scores == pytest.approx(expected, abs=1e-6)
        else:
            assert scores == expected
    card = (tmp_path / "model" / "README.md").read_text()
    assert ("each folder as one" in card) == ("speaker" in features)
    assert ("Silence at both ends" in card) == ("trim" in features)


def test_weights_carry_configuration_emotions_and_moments(trained: Run, tmp_path: Path) -> None:
    winner = winners_of(trained)[0]
    record = export_model(trained, winner.key, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    assert file.read_bytes() == trained.ledger.weights(winner.results[0]), "the run's own bytes"
    with safetensors.safe_open(file, "np") as opened:
        description = json.loads(opened.metadata()["sersearch"])
    assert description["configuration"] == winner.configuration.record()
    assert description["emotions"] == list(trained.store.emotions) == list(record.emotions)
    frames = np.concatenate([trained.store.frames(speaker) for speaker in trained.partition.train]).astype(np.float64)
    model = open_model(tmp_path / "model")
    assert model.moments.count == len(frames)
    assert model.moments.mean() == pytest.approx(frames.mean(0))
    assert model.moments.covariance() == pytest.approx(np.cov(frames.T, bias=True))


def test_weights_of_earlier_versions_are_exported_with_their_metadata(trained: Run, tmp_path: Path) -> None:
    """Weights without metadata are what runs of earlier versions hold."""
    winner = winners_of(trained)[0]
    shutil.copytree(trained.path, tmp_path / "run")
    result = winner.results[0]
    place = tmp_path / "run" / "trials" / winner.key
    bare = safetensors.numpy.save(safetensors.numpy.load_file(place / result.weights))
    (place / result.weights).write_bytes(bare)
    text = (place / "result.json").read_text()
    before = result.model_copy(update={"weights_sha256": hashlib.sha256(bare).hexdigest()})
    (place / "result.json").write_bytes(seal(before))
    assert text != (place / "result.json").read_text()
    shutil.rmtree(tmp_path / "run" / "test")
    export_model(open_run(tmp_path / "run"), winner.key, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == trained.ledger.weights(result)


def test_the_card_shows_the_tests_that_exist(trained: Run, tmp_path: Path) -> None:
    winner = winners_of(trained)[0]
    record = export_model(trained, winner.key, tmp_path / "model")
    (table,) = read_predictions(trained, winner)
    right = sum(row["emotion"] == row["predicted"] for row in table.to_pylist())
    assert record.provenance.test["clean"].ua == pytest.approx(100 * right / len(table)), "as many of each emotion"
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"| clean | {record.provenance.test['clean'].ua:.2f} |" in card
    assert "tiny: its licence is not known to sersearch" in card
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("test", "openings"))
    export_model(open_run(tmp_path / "run"), winner.key, tmp_path / "untested")
    assert "It was not tested" in (tmp_path / "untested" / "README.md").read_text()
    assert not (tmp_path / "run" / "openings").exists()
    assert not (tmp_path / "run" / "test").exists()


def test_what_is_refused_is_one_line(trained: Run, tmp_path: Path) -> None:
    first, second = (winner.key for winner in winners_of(trained)[:2])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other things"):
        export_model(trained, first, tmp_path / "full")
    export_model(trained, first, tmp_path / "model")
    export_model(trained, first, tmp_path / "model")
    with pytest.raises(InputError, match=f"holds the model of another trial, {first}"):
        export_model(trained, second, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged"):
        open_model(tmp_path / "model")
    weights.unlink()
    with pytest.raises(InputError, match="is missing"):
        open_model(tmp_path / "model")
    done = runner.invoke(app, ["predict", str(tmp_path / "nowhere"), "a.wav"])
    assert isinstance(done.exception, InputError)
    assert "is not an exported model" in str(done.exception)


@pytest.fixture(scope="module")
def mixed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two recordings, one of them in stereo at another rate, and all kinds of files that are none."""
    folder = tmp_path_factory.mktemp("mixed") / "it's, mixed"
    folder.mkdir()
    speech, rate = soundfile.read(next(tiny_corpus.rglob("anger 0.flac")))
    soundfile.write(folder / "a.wav", speech, rate)
    soundfile.write(folder / "=b.wav", np.stack([speech, 0.5 * speech], 1), 44_100)
    soundfile.write(folder / "click.wav", speech[:200], rate)
    soundfile.write(folder / "silence.wav", np.zeros(rate), rate)
    soundfile.write(folder / "lecture.flac", np.tile(speech, 800), rate)
    (folder / "text.wav").write_text("no sound")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_names_every_file(trained: Run, mixed: Path, tmp_path: Path, workers: int) -> None:
    model = tmp_path / "model"
    assert runner.invoke(app, ["export", str(trained.path), winners_of(trained)[0].key, str(model)]).exit_code == 0
    done = runner.invoke(app, ["predict", str(model), str(mixed), str(mixed / "gone.wav"), "--workers", str(workers)])
    assert done.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["path"].removeprefix("'")).name for row in rows] == [
        "=b.wav", "a.wav", "click.wav", "lecture.flac", "silence.wav", "text.wav", "gone.wav"
    ]  # fmt: skip
    said = {Path(row["path"]).name: row["problem"] for row in rows}
    assert said["a.wav"] == said["=b.wav"] == ""
    for name, reason in {
        "click.wav": "lasts 12.5 ms, shorter than one window",
        "silence.wav": "is entirely digital silence",
        "lecture.flac": "one emotion is predicted per file of at most 300 s",
        "text.wav": "can't be decoded",
        "gone.wav": "can't be",
    }.items():
        assert reason in said[name]
        assert f"{name}: {said[name]}" in done.stderr
    assert "not read: 1 x .txt" in done.stderr
    assert "5 of 7 files could not be predicted" in done.stderr
    for row in rows:
        scores = [row[f"probability_{emotion}"] for emotion in trained.store.emotions]
        if row["problem"]:
            assert not any(scores)
            assert not row["emotion"]
        else:
            assert sum(map(float, scores)) == pytest.approx(1)
            assert row["emotion"] == trained.store.emotions[int(np.argmax(list(map(float, scores))))]
    done = runner.invoke(app, ["predict", str(model), str(mixed), "--format", "json", "--workers", "1"])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("problem", "") for line in lines] == [row["problem"] for row in rows[:-1]]
    for line, row in zip(lines, rows, strict=False):
        if not row["problem"]:
            assert line["probabilities"] == {e: float(row[f"probability_{e}"]) for e in trained.store.emotions}


def test_a_folder_without_audio_is_wrong_input(trained: Run, tmp_path: Path) -> None:
    export_model(trained, winners_of(trained)[0].key, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    done = runner.invoke(app, ["predict", str(tmp_path / "model"), str(tmp_path / "empty")])
    assert isinstance(done.exception, InputError)
    assert "holds no audio" in str(done.exception)
