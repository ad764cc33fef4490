"""Studies in folds, really trained: the nested choice against plain scikit-learn, reports that add folds up, leaks."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import SVC

from sersearch.evaluation.counts import count_test_predictions, count_validation_predictions
from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.probe.inquiry import probe
from sersearch.evaluation.probe.probes import choose_svm, predict
from sersearch.evaluation.probe.representations import Representations, write_representations
from sersearch.evaluation.test_partition import evaluate_winners, read_predictions, record_ledger
from sersearch.models.svm import standardise
from sersearch.report import text
from sersearch.report.folder import read_report
from sersearch.report.page import page
from sersearch.report.sheets import leaderboards
from sersearch.run.run import Run, open_run, start_run
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.table import import_table
from sersearch.study.study import parse_study
from sersearch.training.system import run_trial, system_class

Labels = tuple[str, str, str]
"""Utterance, speaker and emotion."""

GRID = [0.03, 0.3, 3.0, 30.0]


def with_vectors(store: Store, folder: Path, vector_of: Callable[[Labels], np.ndarray]) -> Store:
    """A copy of a store with a set of vectors "own"."""
    shutil.copytree(store.path, folder / "store")
    opened = open_store(folder / "store")
    rows = [(labels[0], *vector_of(labels).tolist()) for labels in clean_labels(opened)]
    with (folder / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", *(f"x{number}" for number in range(len(rows[0]) - 1))])
        writer.writerows(rows)
    import_table(opened, "own", folder / "own.csv")
    return opened


def clean_labels(store: Store) -> list[Labels]:
    rows = [row for info in store.speakers for row in store.table(info.speaker).drop_columns("log_mel").to_pylist()]
    return [(row["utterance"], row["speaker"], row["emotion"]) for row in rows if row["condition"] == "clean"]


def train(run: Run) -> None:
    while left := run.agenda().left:
        for trial in left:
            data = system_class(trial.configuration).open_data(run.store, trial)
            run_trial(trial.sealed, data, attempt=run.ledger.begin(trial))


def svm_study(partition: dict[str, object], kernel: str = "rbf") -> dict[str, object]:
    space = {"name": "svm", "model": "SVM", "features": "own", "kernel": kernel, "C": GRID}
    return {"name": "folds", "spaces": [space], "partition": partition}


@pytest.fixture(scope="module")
def svms(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("svms")
    generator = np.random.default_rng(3)
    centres = {name: generator.standard_normal(6) for name in tiny_store.emotions}
    store = with_vectors(tiny_store, folder, lambda labels: centres[labels[2]] + 1.2 * generator.standard_normal(6))
    run = start_run(folder / "run", parse_study(svm_study({"folds": 3, "validation": 2}), "x"), store.path)
    train(run)
    said: list[str] = []
    assert evaluate_winners(run, said.append).tested
    return run


def test_the_nested_choice_is_plain_scikit_learns(svms: Run) -> None:
    x = {u: v for u, v in zip(*read_vectors(svms), strict=True)}
    labels = clean_labels(svms.store)
    speaker = np.array([row[1] for row in labels])
    emotion = np.array([row[2] for row in labels])
    scaled = standardise(np.array([x[row[0]] for row in labels]), speaker)
    expected: dict[str, str] = {}
    chosen = []
    (winner,) = select_winners(svms).winners
    keys = {
        (c.model_dump()["C"], n): r[0].trial.key
        for c, of in winner.candidates.results.items()
        for n, r in enumerate(of)
    }
    for number, fold in enumerate(svms.folds):
        train_U, validation_U, test_U = (np.isin(speaker, fold.speakers(p)) for p in ("train", "validation", "test"))
        ranked = []
        for c in GRID:
            machine = SVC(C=c, kernel="rbf", gamma=1 / 6, class_weight="balanced")
            machine.fit(scaled[train_U], emotion[train_U])
            ua = balanced_accuracy_score(emotion[validation_U], machine.predict(scaled[validation_U]))
            # On a tie the machine with fewer numbers wins, then the smaller key.
            ranked.append((-ua, len(machine.support_), keys[c, number], machine))
        best = min(ranked)[-1]
        chosen.append(best.C)
        at = np.flatnonzero(test_U)
        expected.update(zip((labels[i][0] for i in at), best.predict(scaled[at]).tolist(), strict=True))
    tables = [table.to_pandas() for table in read_predictions(svms, winner)]
    assert {u: p for table in tables for u, p in zip(table["utterance"], table["predicted"], strict=True)} == expected
    assert [choice.configuration.model_dump()["C"] for choice in winner.choices] == chosen
    (row,) = read_report(svms).rows
    assert row.test
    predicted = [expected[u] for u, _, _ in labels]
    assert row.test.overall.ua == pytest.approx(100 * balanced_accuracy_score(emotion, predicted))
    assert row.test.overall.utterances == len(labels)
    assert len(row.test.speakers) == 6


def read_vectors(run: Run) -> tuple[list[str], list[list[float]]]:
    with (run.store.path.parent / "own.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], [[float(value) for value in row[1:]] for row in rows]


def test_counts_of_each_fold_are_of_its_own_speakers(svms: Run) -> None:
    (winner,) = select_winners(svms).winners
    tested, validated = count_test_predictions(svms, winner), count_validation_predictions(winner)
    assert [entry.fold for entry in tested] == [0, 1, 2]
    assert [entry.fold_name for entry in tested] == ["1 of 3", "2 of 3", "3 of 3"]
    assert [entry.speakers for entry in tested] == [fold.test for fold in svms.folds]
    assert [entry.speakers for entry in validated] == [fold.validation for fold in svms.folds]
    (row,) = read_report(svms).rows
    assert row.test
    assert sum(entry.all_SEE.sum(0) for entry in tested).tolist() == row.test.confusion
    assert row.test_uas == tuple(
        pytest.approx(100 * np.mean(np.diag(e.all_SEE.sum(0)) / e.all_SEE.sum((0, 2)))) for e in tested
    )


def test_the_report_adds_the_folds_up_and_has_each_as_data(svms: Run) -> None:
    facts = read_report(svms)
    (sheet,) = leaderboards(facts)
    assert "corrected (%)" not in sheet.columns
    assert any("3 folds: every speaker tests once" in note for note in sheet.notes)
    rows = list(csv.DictReader(text.folds(facts).splitlines()))
    assert [row["fold"] for row in rows if row["protocol"] == "partition"][:3] == ["1 of 3", "2 of 3", "3 of 3"]
    assert {row["test_speakers"] for row in rows} == {" ".join(fold.test) for fold in svms.folds}
    assert facts.record()["folds"] == [fold.model_dump(mode="json") for fold in svms.folds]
    assert b"each tested once" in page(facts).encode()


def test_a_run_in_folds_opens_as_it_was_begun(svms: Run) -> None:
    opened = open_run(svms.path)
    assert opened.folds == svms.folds
    assert opened.agenda().complete
    assert start_run(svms.path, svms.study, svms.store_path).folds == svms.folds


def test_labels_that_only_test_speakers_carry_gain_nothing(tiny_store: Store, tmp_path: Path) -> None:
    """Numbers 3 f to 3 f + 2 spell the emotion of the speakers who test in fold f, and nothing for anyone else."""
    generator = np.random.default_rng(0)
    folds = start_run(tmp_path / "dealt", parse_study(svm_study_without_vectors(), "x"), tiny_store.path).folds
    tests_in = {speaker: number for number, fold in enumerate(folds) for speaker in fold.test}

    def vector_of(labels: Labels) -> np.ndarray:
        vector = generator.standard_normal((len(folds), 3))
        vector[tests_in[labels[1]]] = 100.0 * np.eye(3)[tiny_store.emotions.index(labels[2])]
        return vector.ravel()

    store = with_vectors(tiny_store, tmp_path, vector_of)
    study = parse_study(svm_study({"folds": 3, "validation": 2}, "linear"), "x")
    run = start_run(tmp_path / "run", study, store.path)
    assert run.folds == folds
    train(run)
    evaluate_winners(run, lambda _: None)
    (row,) = read_report(run).rows
    assert row.test
    # 36 guesses among three: within three standard errors of chance, where a leak would give 100.
    assert abs(row.test.overall.ua - 100 / 3) < 3 * 100 * np.sqrt(2 / 9 / 36)


def svm_study_without_vectors() -> dict[str, object]:
    return {
        "name": "dealt",
        "spaces": [{"name": "l", "model": "LDNN"}],
        "partition": {"folds": 3, "validation": 2},
    }


@pytest.fixture(scope="module")
def networks(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    training = {"epochs": 2, "maps": 4, "cells": 4, "dense": [6], "learning_rate": 0.01}
    space = {"name": "t", "model": "T-CLDNN", "w1": [3, 6], "w2": 2}
    study = {"name": "n", "spaces": [space], "seeds": 2, "training": training}
    study["partition"] = {"folds": 3, "validation": 2}
    run = start_run(tmp_path_factory.mktemp("networks") / "run", parse_study(study, "x"), tiny_store.path)
    train(run)
    evaluate_winners(run, lambda _: None)
    return run


@pytest.mark.slow("it trains networks")
def test_seeds_and_folds_of_networks_add_up(networks: Run) -> None:
    for row in read_report(networks).rows:
        winner = row.winner
        tables = [table.to_pandas() for table in read_predictions(networks, winner)]
        assert len(tables) == 2 * 3
        by_seed = [np.concatenate([t[["emotion", "predicted"]] for t in tables[s : s + 3]]) for s in (0, 3)]
        ua = [100 * balanced_accuracy_score(both[:, 0], both[:, 1]) for both in by_seed]
        assert row.test
        assert row.test.seeds.ua == pytest.approx(ua)
        assert row.test.overall.ua == pytest.approx(np.mean(ua))
        for number, choice in enumerate(winner.choices):
            best = max(
                np.mean([result.ua(winner.condition) for result in by_fold[number]])
                for by_fold in winner.candidates.results.values()
            )
            assert np.mean([result.ua(winner.condition) for result in choice.results]) == best
    assert b"fold 1 of 3, " in page(read_report(networks)).encode()


@pytest.mark.slow("it trains networks")
def test_copies_with_noises_that_were_not_learnt_from_are_counted(
    networks: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (winner,) = (w for w in select_winners(networks).winners if w.condition == "noisy")
    assert all(
        entry.unseen_SEE is not None and not entry.unseen_SEE.any()
        for entry in count_test_predictions(networks, winner)
    )
    known = Counter({"hiss.flac": 1})
    monkeypatch.setattr(Store, "noises_of", lambda self, speaker: known)
    for entry, table in zip(count_test_predictions(networks, winner), read_predictions(networks, winner), strict=True):
        rows = [row for row in table.to_pylist() if row["noise"] not in (None, "hiss.flac")]
        assert entry.unseen_SEE is not None
        assert entry.unseen_SEE.sum() == len(rows)
        right = sum(row["emotion"] == row["predicted"] for row in rows)
        assert np.trace(entry.unseen_SEE.sum(0)) == right
        assert (entry.unseen_SEE <= entry.noisy_SEE).all()


@pytest.mark.slow("it trains networks")
def test_probes_add_the_folds_up(networks: Run) -> None:
    findings = probe(networks, "noisy", lambda _: None, workers=1)
    (probed,) = findings.winners
    board = select_winners(networks)
    (winner,) = (w for w in board.winners if w.condition == "noisy")
    ledger = record_ledger(networks, board)
    for module in probed.modules:
        true: list[str] = []
        predicted: list[str] = []
        for number in range(3):
            name = write_representations(networks, winner, ledger, number)
            found = Representations.read(networks.storage, name)
            emotion = np.array([networks.store.emotions.index(name) for name in found.emotion_U])
            parts = found.clean("train"), found.clean("validation"), found.clean("test")
            x = found.column(module.name)
            chosen = choose_svm(x, emotion, parts[0], parts[1])
            predicted += predict(x, emotion, parts[0], parts[2], chosen).tolist()
            true += emotion[parts[2]].tolist()
        assert len(true) == 6 * 6
        assert module.accuracy["emotion"].ua == pytest.approx(100 * balanced_accuracy_score(true, predicted))
        assert module.noise[0].copies == 6 * 6 * 2
    opened = {name for name in networks.storage.list("openings/") if "probe" in name}
    assert len(opened) == 3
