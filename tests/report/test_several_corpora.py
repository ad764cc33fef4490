"""Several corpora in one store: speakers are kept apart, and the report has a table by corpus and by further column."""

import csv
from pathlib import Path
from typing import Any

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
from sersearch.run.run import speaker_groups
from sersearch.run.split import check_split, read_split, write_split
from sersearch.speech.corpora import read_corpora
from sersearch.store.build import build_store
from sersearch.store.reader import Store, open_store
from sersearch.study.fold import Fold, Split
from sersearch.study.study import Study, parse_study
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


def fold_of(store: Store, partition: dict[str, Any]) -> tuple[Fold, ...]:
    read = read_split(partition_study(partition), store, speaker_groups(store)).partition
    assert isinstance(read, Split)
    return read.parts


def partition_study(partition: dict[str, Any]) -> Study:
    return parse_study({"name": "x", "spaces": [{"name": "l", "model": "LDNN"}], "partition": partition}, "x.toml")


@pytest.mark.parametrize("seed", range(4))
def test_one_corpus_trains_and_chooses_and_another_tests(store: Store, seed: int) -> None:
    (fold,) = fold_of(store, {"train": "corpus:a", "test": "corpus:b", "validation": 2, "seed": seed})
    assert fold.test == ("b/1", "b/2", "b/3", "b/4")
    assert fold.learnt == ("a/1", "a/2", "a/3", "a/4")
    # Speakers 1 and 3 are of one gender, 2 and 4 of the other.
    assert sorted(int(name[-1]) % 2 for name in fold.validation) == [0, 1]
    assert "no corpus is in two parts: a in training and validation, b in test" in check_split(store, [fold])


def test_corpora_and_speakers_may_be_named_side_by_side(store: Store) -> None:
    (fold,) = fold_of(store, {"test": ["corpus:b"], "validation": 1})
    assert {name[0] for name in fold.learnt} == {"a"}
    (fold,) = fold_of(store, {"train": ["corpus:a", "b/1"], "test": ["b/2", "b/3"], "validation": ["b/4"]})
    assert fold == Fold(train=("a/1", "a/2", "a/3", "a/4", "b/1"), validation=("b/4",), test=("b/2", "b/3"))
    assert "1 of 1 tested corpora are in training or validation, too: b" in check_split(store, [fold])


def test_every_corpus_is_left_out_in_turn(store: Store, tmp_path: Path) -> None:
    folds = fold_of(store, {"folds": "corpora", "validation": 2})
    assert [fold.name for fold in folds] == ["a", "b"]
    for fold, other in zip(folds, "ba", strict=True):
        assert {name[0] for name in fold.test} == {fold.name}
        assert {name[0] for name in fold.learnt} == {other}
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (2, 2, 4)
    assert "no fold tests a corpus that it is trained or chosen on; tested in turn: a, b" in check_split(store, folds)
    file = tmp_path / "split.csv"
    file.write_text(write_split(folds))
    assert fold_of(store, {"file": str(file)}) == folds


@pytest.mark.parametrize(
    ("partition", "said"),
    [
        ({"train": "corpus:a", "test": 20}, "test: 20 is a share, but another part is given by name"),
        ({"train": 70, "test": "corpus:b"}, "train: 70 is a share, but another part is given by name"),
        ({"train": "corpus:a", "test": "corpus:b", "stratify": True}, "stratify does not go together with the other"),
        ({"train": "corpus:a"}, "test: "),
        ({"folds": "corpus"}, "folds: 'corpus' was given"),
        ({"folds": "corpora", "train": "corpus:a"}, "train does not go together with the other"),
        ({"folds": 2, "test": "corpus:b"}, "folds = 2 test every speaker once"),
        ({"train": "a", "test": 20}, "train: 'a' was given"),
    ],
)
def test_what_does_not_go_together_with_corpora(partition: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        partition_study(partition)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("partition", "said"),
    [
        (
            {"train": "corpus:a", "test": "corpus:c"},
            "test = 'corpus:c': the store has no corpus 'c'; its corpora are a, b",
        ),
        ({"train": "corpus:a", "test": "corpus:a"}, "speaker a/1 is in two parts"),
        ({"train": "corpus:a", "test": "corpus:b", "validation": "corpus:b"}, "speaker b/1 is in two parts"),
        ({"train": "corpus:a", "test": "corpus:b"}, "4 train speakers, but 5 are needed, of whom 4 are drawn"),
        ({"folds": "corpora"}, "fold a: 4 train speakers, but 5 are needed"),
    ],
)
def test_corpora_that_leave_a_part_empty_or_in_two(store: Store, partition: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fold_of(store, partition)


def test_a_store_of_one_corpus_leaves_none_out(folders: dict[str, Path], tmp_path: Path) -> None:
    alone = build_store(tmp_path / "store", read_corpora({"a": folders["a"]}), noises=0, snrs=0, workers=1)
    with pytest.raises(InputError, match=r'folds = "corpora" was given, but .* has one corpus, a: build a store of'):
        fold_of(alone, {"folds": "corpora"})


def test_emotions_that_not_all_corpora_have_are_said(folders: dict[str, Path]) -> None:
    said = "emotions that not all corpora have: boredom (16 in a, none in b: {0}); happiness (16 in b, none in a: {0})"
    assert said.format("left out") in read_corpora(folders).notes
    assert said.format("kept") in read_corpora(folders, ("anger", "boredom", "happiness", "sadness")).notes
    assert not any("not all corpora" in note for note in read_corpora(folders, by_hand={"bored": "joy"}).notes)
    assert not any("not all corpora" in note for note in read_corpora({"a": folders["a"]}).notes)


def test_plan_and_report_say_which_corpora_train_and_test(store: Store, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    spaces = STUDY.partition("[partition]")[0]
    study.write_text(f'{spaces}[partition]\ntrain = "corpus:a"\ntest = "corpus:b"\nvalidation = 2\n')
    code, said = say("plan", study, "--store", store.path)
    assert code == 0, said
    assert "test: 4 speakers: b/1, b/2, b/3, b/4" in said
    assert "no corpus is in two parts: a in training and validation, b in test" in " ".join(said.split())
    (board,) = leaderboards(read_report(generate_run(tmp_path / "across", study, store)))
    assert any("b in test" in note for note in board.notes)
    code, said = say("plan", study, "--store", store.path, "--set", "partition.folds=corpora")
    assert code == 2
    study.write_text(f'{spaces}[partition]\nfolds = "corpora"\nvalidation = 2\n')
    code, said = say("plan", study, "--store", store.path)
    assert code == 0, said
    assert "partition: 2 folds of 2 train, 2 validation, 4 test speakers" in " ".join(said.split())
    facts = read_report(generate_run(tmp_path / "in-turn", study, store))
    (board,) = leaderboards(facts)
    assert any("tested in turn: a, b" in note for note in board.notes)
    assert any("a corpus of more utterances counts more" in note for note in board.notes)
    for row in facts.rows:
        assert [(each.fold.name, each.fold.test[0][0]) for each in row.winner.choices] == [("a", "a"), ("b", "b")]
        assert row.test
        assert [each.name for each in row.test.groups["corpus"]] == ["a", "b"]
