"""Splits by name: lists, files and columns of a manifest; what is refused, and what a split has in two parts."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.report.folder import read_report
from sersearch.report.sheets import leaderboards
from sersearch.run.run import open_run, speaker_groups, start_run
from sersearch.run.split import check_split, read_split, write_split
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.study.fold import Dealt, Fold, Split, deal_folds
from sersearch.study.study import Study, load_study, parse_study
from sersearch.training.system import run_trial, system_class

SPACES = [{"name": "l", "model": "LDNN"}]


def study(partition: dict[str, Any]) -> Study:
    return parse_study({"name": "x", "spaces": SPACES, "partition": partition}, "x.toml")


def folds(store: Store, partition: dict[str, Any]) -> tuple[Fold, ...]:
    read = read_split(study(partition), store, speaker_groups(store)).partition
    assert isinstance(read, Split)
    return read.parts


@pytest.fixture(scope="module")
def store(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny corpus with columns: sentence (the take), dialogue (a pair of speakers), part and session."""
    folder = tmp_path_factory.mktemp("split")
    shutil.copytree(tiny_corpus, folder / "corpus")
    with (tiny_corpus / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        speaker = int(row["speaker"][1])
        row |= {
            "sentence": row["utterance"][-1] if speaker < 4 else f"own {speaker}",
            "dialogue": f"d{speaker // 2}",
            "part": ("Training", "Training", "Dev", "Training", "TEST", "test")[speaker],
            "session": f"session {speaker // 2}",
        }
    manifest = folder / "corpus" / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return build_store(folder / "store", read_corpus("columns", manifest), None, noises=0, snrs=0, workers=1)


def test_speakers_by_name(store: Store) -> None:
    (fold,) = folds(store, {"test": ["s5"], "validation": ["s4", "s0"]})
    assert fold == Fold(train=("s1", "s2", "s3"), validation=("s0", "s4"), test=("s5",))
    (fold,) = folds(store, {"test": ["s5"], "validation": ["s4"], "train": ["s1", "s2"]})
    assert fold.train == ("s1", "s2")
    assert "2 of 6 speakers are in no part: s0, s3" in check_split(store, [fold])


def test_validation_speakers_are_drawn_by_gender_where_none_are_named(store: Store) -> None:
    for seed in range(5):
        (fold,) = folds(store, {"test": ["s4", "s5"], "validation": 2, "seed": seed})
        assert sorted({"s0": "f", "s1": "m", "s2": "f", "s3": "m"}[name] for name in fold.validation) == ["f", "m"]
        assert sorted((*fold.train, *fold.validation)) == ["s0", "s1", "s2", "s3"]


def test_a_column_of_parts_and_one_of_folds(store: Store) -> None:
    (fold,) = folds(store, {"column": "part"})
    assert fold == Fold(train=("s0", "s1", "s3"), validation=("s2",), test=("s4", "s5"))
    in_turn = folds(store, {"column": "session", "validation": 1})
    assert [fold.test for fold in in_turn] == [("s0", "s1"), ("s2", "s3"), ("s4", "s5")]
    assert [fold.validation for fold in in_turn] == [("s2", "s3"), ("s4", "s5"), ("s0", "s1")]
    assert [fold.name for fold in in_turn] == ["session 0", "session 1", "session 2"]


def test_what_is_in_two_parts_is_said(store: Store) -> None:
    (fold,) = folds(store, {"column": "part"})
    assert check_split(store, [fold]) == (
        "no speaker is in two parts",
        "no sentences are in two parts (column sentence)",
        "no recordings are in two parts (column dialogue)",
    )
    (mixed,) = folds(store, {"test": ["s0", "s5"], "validation": ["s1"]})
    assert check_split(store, [mixed])[1:] == (
        "2 of 3 tested sentences are in training or validation, too (column sentence)",
        "2 of 2 tested recordings are in training or validation, too (column dialogue)",
    )


def test_nothing_is_known_of_what_no_column_says(tiny_store: Store) -> None:
    (fold,) = folds(tiny_store, {"test": ["s5"], "validation": 2})
    assert check_split(tiny_store, [fold])[1] == (
        "whether sentences are in two parts is unknown: no column sentence or text"
    )


def test_the_share_of_test_copies_with_a_noise_that_was_learnt_from(tiny_store: Store) -> None:
    (fold,) = folds(tiny_store, {"test": ["s4", "s5"], "validation": ["s3"], "train": ["s0"]})
    rows = {s: tiny_store.table(s).drop_columns("log_mel").to_pylist() for s in ("s0", "s4", "s5")}
    learnt = {row["noise"] for row in rows["s0"]}
    tested = [row["noise"] for s in ("s4", "s5") for row in rows[s] if row["noise"]]
    share = 100 * sum(noise in learnt for noise in tested) / len(tested)
    assert check_split(tiny_store, [fold])[-1] == (
        f"{share:.0f} % of the noisy test copies hold a noise recording that is trained on, too, and 100 % one of a "
        "folder that is"
    )


@pytest.mark.parametrize("several", [False, True])
def test_what_is_written_is_read_again(store: Store, tmp_path: Path, several: bool) -> None:
    made = deal_folds([f"s{n}" for n in range(6)], Dealt(folds=3, validation=2), speaker_groups(store))
    chosen = made if several else (made[0].model_copy(update={"name": ""}),)
    (tmp_path / "split.csv").write_text(write_split(chosen))
    assert folds(store, {"file": str(tmp_path / "split.csv")}) == chosen


def test_a_file_by_utterance_with_semicolons(store: Store, tmp_path: Path) -> None:
    part_of = {"s5": "test", "s4": "dev"}
    lines = [
        f"{row['utterance']};{part_of.get(info.speaker, 'train')}"
        for info in store.speakers
        for row in store.labels_of(info.speaker)
    ]
    (tmp_path / "split.csv").write_text("\ufeffUtterance;Part\r\n" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    (fold,) = folds(store, {"file": str(tmp_path / "split.csv")})
    assert fold == Fold(train=("s0", "s1", "s2", "s3"), validation=("s4",), test=("s5",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("speaker,part\ns0,train\ns9,test\n", "line 3: unknown speaker s9; did you mean s"),
        ("speaker,part\ns0,train\ns1,teest\n", "line 3: unknown part teest; did you mean test"),
        ("speaker,part\ns0,train\ns0,test\n", r"speaker s0 is in two parts, train \(.*line 2\) and test"),
        ("speaker,part\ns0,train\ns1,train\n", "2 train speakers, but 5 are needed, of whom 4 are drawn to validate"),
        ("speaker,part\ns0,train\ns1,val\n", "0 test speakers, but 1 are needed"),
        ("name,part\ns0,train\n", "its columns are name, part; a split has a column speaker or utterance"),
        ("speaker,part\ns0,train,1\n", "line 2: has 3 fields and the header 2"),
        ("speaker,part,fold\ns0,,\n", "line 2: s0 has neither part nor fold"),
        ("utterance,part\ns0-anger-0,train\n", "the split has 1 utterances of speaker s0 and not s0-anger-1"),
        ("utterance,part\ns0-anger-0,train\ns0-anger-1,test\n", "speaker s0 is in two parts: s0-anger-0 in train and"),
        ("utterance,part\nnobody,train\n", "unknown utterance nobody"),
        (None, "the split can't be read"),
    ],
)
def test_a_file_that_parts_nobody_well_is_one_line(
    store: Store, tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "split.csv").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        folds(store, {"file": str(tmp_path / "split.csv")})
    assert "\n" not in str(caught.value)


def test_names_that_the_store_lacks(store: Store) -> None:
    with pytest.raises(InputError, match=r"\[partition\] test: unknown speaker s77"):
        folds(store, {"test": ["s77"]})
    with pytest.raises(InputError, match="unknown column sesion; did you mean session"):
        folds(store, {"column": "sesion"})


def test_a_run_keeps_its_split_and_a_plan_shows_and_writes_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "split.csv").write_text("speaker,part\ns0,test\ns1,val\n" + "s2,train\ns3,train\n")
    study_file = tmp_path / "studies" / "study.toml"
    study_file.write_text(
        'spaces = [{ name = "l", model = "LDNN" }]\n[training]\nepochs = 1\n[partition]\nfile = "split.csv"\n'
    )
    run = start_run(tmp_path / "run", load_study(study_file), store.path)
    (fold,) = run.folds
    assert fold == Fold(train=("s2", "s3"), validation=("s1",), test=("s0",))
    words = ["plan", str(study_file), "--store", str(store.path), "--run", str(run.path), "--export-split"]
    out = tmp_path / "again.csv"
    shown = CliRunner().invoke(app, [*words, str(out)])
    assert shown.exit_code == 0, shown.output
    assert "2 of 6 speakers are in no part: s4, s5" in shown.output
    assert folds(store, {"file": str(out)}) == (fold,)
    facts = json.loads(CliRunner().invoke(app, [*words, str(out), "--format", "json"]).stdout)
    assert facts["data"]["split"] == list(check_split(store, run.folds))
    # The file is gone, and the run is what it was.
    (tmp_path / "studies" / "split.csv").unlink()
    assert open_run(run.path).folds == (fold,)
    (tmp_path / "studies" / "split.csv").write_text("speaker,part\ns0,test\ns2,val\ns1,train\ns3,train\n")
    with pytest.raises(InputError, match="partition was a split of 1 folds"):
        start_run(run.path, load_study(study_file), store.path)


def test_a_split_without_a_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('spaces = [{ name = "l", model = "LDNN" }]\n[partition]\ntest = ["s0"]\n')
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "study.toml")])
    assert "name it, as in --store STORE" in str(shown.exception or shown.output)


def test_the_report_says_what_is_in_two_parts(store: Store, tmp_path: Path) -> None:
    training = {"epochs": 1, "cells": 2, "dense": [4], "minibatch": 20}
    table = {"name": "x", "spaces": SPACES, "training": training, "partition": {"test": ["s0", "s5"], "validation": 2}}
    run = start_run(tmp_path / "run", parse_study(table, "x"), store.path)
    for trial in run.agenda().left:
        data = system_class(trial.configuration).open_data(run.store, trial)
        run_trial(trial, data, attempt=run.ledger.begin(trial))
    facts = read_report(run)
    (sheet,) = leaderboards(facts)
    (note,) = (note for note in sheet.notes if note.startswith("Split of"))
    assert "2 of 3 tested sentences are in training or validation, too" in note
    assert facts.record()["split"] == list(facts.split)
