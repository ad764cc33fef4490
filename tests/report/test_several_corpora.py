"""Several corpora in one store: speakers are kept apart, and the report has a table by corpus and by further column."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import recall_score
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.evaluation.test_partition import read_predictions
from sersearch.report.folder import read_report
from sersearch.report.sheets import evidence, leaderboards
from sersearch.speech.corpora import read_corpora
from sersearch.store.build import build_store
from sersearch.store.reader import Store, open_store
from tests.generated import generate_run

RATE = 16_000
STUDY = """
spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:4", w2 = 2 }, { name = "ldnn", model = "LDNN" }]
[partition]
train = 25
validation = 25
test = 50
seed = 1
"""


def write_corpus(folder: Path, seed: int, labels: tuple[str, ...], further: bool = False) -> Path:
    """Four speakers, 1 to 4, each with every label four times; the further columns are a session and a text."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion", "gender", *(["session", "text"] if further else [])])
        for speaker in range(1, 5):
            for label in labels:
                for take in (1, 2, 3, 4):
                    path = f"{speaker}-{label}-{take}.wav"
                    soundfile.write(folder / path, 0.1 * generator.standard_normal(RATE // 3), RATE)
                    facts = [f"session {take % 2}", path] if further else []
                    writer.writerow([path, speaker, label, "fm"[speaker % 2], *facts])
    (folder / "readme.txt").write_text("not audio")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    return {
        "a": write_corpus(folder / "a", 1, ("angry", "sad", "bored")),
        "b": write_corpus(folder / "b", 2, ("anger", "sadness", "joy"), further=True),
    }


def say(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, InputError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def store(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("several") / "store"
    corpora = [f"--corpus={name}={folder}" for name, folder in folders.items()]
    code, said = say("features", *corpora, "--out", out, "--workers", 1)
    assert code == 0, said
    assert "angry -> anger (16), bored -> boredom (16), joy -> happiness (16), sad -> sadness (16)" in said
    assert "left out (with the number of utterances): boredom (16), happiness (16)" in said
    assert "not read in" in said
    assert "2" in said.partition("not read in")[2]
    return open_store(out)


def test_speakers_and_utterances_are_kept_apart_by_corpus(store: Store) -> None:
    assert store.recipe.corpus == "a+b"
    assert store.emotions == ("anger", "sadness")
    speakers = [f"{corpus}/{speaker}" for corpus in "ab" for speaker in range(1, 5)]
    assert [info.speaker for info in store.speakers] == speakers
    for info in store.speakers:
        table = store.table(info.speaker)
        assert info.corpus == info.speaker[0]
        assert set(table["corpus"].to_pylist()) == {info.corpus}
        assert all(id.startswith(f"{info.corpus}/") for id in table["utterance"].to_pylist())


def test_one_corpus_keeps_its_own_names(folders: dict[str, Path]) -> None:
    alone = read_corpora({"a": folders["a"]})
    assert alone.speakers == ("1", "2", "3", "4")
    assert alone.emotions == ("anger", "boredom", "sadness")


def test_emotions_of_several_corpora(folders: dict[str, Path]) -> None:
    assert read_corpora(folders).emotions == ("anger", "sadness")
    every = ("anger", "boredom", "happiness", "sadness")
    assert read_corpora(folders, every).emotions == every
    mapped = read_corpora(folders, by_hand={"bored": "calm", "joy": "calm"})
    assert mapped.emotions == ("anger", "calm", "sadness")
    with pytest.raises(InputError, match=r"a\+b has no emotion 'fear'"):
        read_corpora(folders, ("fear",))


def test_corpora_without_a_common_emotion(folders: dict[str, Path], tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other", 3, ("calm",))
    with pytest.raises(InputError, match=r"no emotion in common \(a has anger, boredom, sadness; c has calm\)"):
        read_corpora({"a": folders["a"], "c": other})


def test_a_recording_that_is_in_two_corpora_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = write_corpus(tmp_path / "copy", 1, ("angry", "sad", "bored"))
    with pytest.raises(InputError, match="is the same recording as"):
        build_store(tmp_path / "store", read_corpora({"a": folders["a"], "copy": copy}), noises=0, snrs=0, workers=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a=x", "a=y"), "the name a is given twice"),
        (("a/b=x", "c=y"), "the name a/b holds / or +"),
        (("a", "b=x"), "--corpus a: write NAME=DIR"),
    ],
)
def test_names_that_make_no_sense(given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    code, message = say("features", *(f"--corpus={pair}" for pair in given), "--out", tmp_path / "store")
    assert code == 2
    assert said in message


def test_functionals_take_the_same_corpora(store: Store, folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    corpora = [f"--corpus={name}={folder}" for name, folder in folders.items()]
    code, said = say("functionals", *corpora, "--sets", "IS09", "--out", store.path, "--workers", 1)
    assert code == 0, said
    assert "IS09: 64 vectors" in said
    code, said = say("functionals", corpora[0], "--sets", "IS10", "--out", store.path, "--workers", 1)
    assert code == 2
    assert "was not built from this corpus" in said or "has no emotion" in said


def test_the_report_has_the_corpus_and_further_columns(store: Store, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    facts = read_report(generate_run(tmp_path / "run", study, store))
    assert {facts.values(row)["corpus"] for row in facts.rows} == {"a+b"}
    sheets = {sheet.title: sheet for sheet in evidence(facts)}
    assert leaderboards(facts)
    by_session = sheets["Test UA by session (%), clean condition"]
    assert by_session.columns[2:] == ("session 0", "session 1")
    speakers = sheets["Test UA of each speaker (%), clean condition"]
    assert "There is no table by text, which has 16 values." in speakers.notes
    assert {speaker[0] for speaker in facts.run.partition.test} == {"a", "b"}
    for row in facts.rows:
        assert row.test
        table = pd.concat(table.to_pandas() for table in read_predictions(facts.run, row.winner))
        assert [each.name for each in row.test.groups["corpus"]] == ["a", "b"]
        for each in row.test.groups["corpus"]:
            part = table[table["corpus"] == each.name]
            assert each.ua == pytest.approx(100 * recall_score(part["emotion"], part["predicted"], average="macro"))
