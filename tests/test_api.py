"""`import sersearch`: runs as DataFrames and figures, and a trial in a notebook."""

import shutil
import subprocess
import sys
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import recall_score

import sersearch
from sersearch.errors import InputError
from sersearch.report import text
from sersearch.report.folder import read_report
from sersearch.run.run import Run
from sersearch.store.reader import Store
from tests.deployment.conftest import NETWORKS, train

SMALL: dict[str, Any] = {"maps": 4, "cells": 4, "dense": [6], "learning_rate": 0.01, "epochs": 2}


@pytest.fixture(scope="module")
def trained(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("api"), NETWORKS.replace("FEATURES", ""), tiny_store)


def test_importing_brings_nothing_heavy_along() -> None:
    code = (
        "import sys, sersearch; sersearch.__dir__(); "
        "heavy = {'torch', 'pandas', 'ray', 'optuna', 'matplotlib', 'pyarrow', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy; sersearch.open_run; assert not {'torch', 'ray', 'optuna'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'opne_run'"):
        sersearch.opne_run  # noqa: B018


def test_tables_are_those_of_the_report(trained: Run) -> None:
    run = sersearch.open_run(trained.path)
    assert "3 of 3 trials are done" in repr(run)
    facts = read_report(trained)
    for table, file in ((run.leaderboard(), text.comma_separated(facts)), (run.folds(), text.folds(facts))):
        written = pd.read_csv(StringIO(file))
        compared = [name for name in table if name in ("key", "model", "space") or "ua" in name.split("_")]
        assert len(compared) >= 5
        for name in compared:
            assert table[name].tolist() == pytest.approx(written[name].tolist(), nan_ok=True), name
    assert list(run.leaderboard()) == list(pd.read_csv(StringIO(text.comma_separated(facts))))
    expected = pd.read_parquet(BytesIO(text.parquet(text.trial_records(facts))))
    pd.testing.assert_frame_equal(run.trials(), expected)
    epochs = run.epochs()
    assert len(epochs) == 6
    best = run.trials().set_index("key")["validation_loss"]
    assert epochs.groupby("key")["validation_loss"].min().to_dict() == best.to_dict()


def test_predictions_lead_to_the_leaderboards_ua(trained: Run) -> None:
    run = sersearch.open_run(trained.path)
    predictions = run.predictions()
    for row in run.leaderboard().itertuples():
        table = predictions[(predictions["key"] == row.key) & (predictions["condition"] == row.condition)]
        assert 100 * recall_score(table["emotion"], table["predicted"], average="macro") == pytest.approx(
            row.test_ua, abs=1e-4
        )
        scores = table[[f"probability_{emotion}" for emotion in trained.store.emotions]]
        assert scores.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(table)), abs=1e-6)


@pytest.mark.parametrize("method", ["leaderboard", "trials", "folds", "epochs", "predictions"])
def test_each_library_has_the_same_table(trained: Run, method: str) -> None:
    run = sersearch.open_run(trained.path)
    arrow = getattr(run, method)("arrow")
    assert isinstance(arrow, pa.Table)
    as_polars, as_pandas = getattr(run, method)("polars"), getattr(run, method)()
    assert isinstance(as_polars, polars.DataFrame)
    assert isinstance(as_pandas, pd.DataFrame)
    assert as_polars.to_arrow().to_pylist() == arrow.to_pylist()
    assert as_pandas.shape == (arrow.num_rows, arrow.num_columns)
    with pytest.raises(InputError, match="unknown library polar; did you mean polars"):
        getattr(run, method)("polar")


def test_figures_are_matplotlibs(trained: Run) -> None:
    figures = sersearch.open_run(trained.path).figures()
    assert {"leaderboard-clean", "leaderboard-noisy", "confusion-clean"} <= set(figures)
    assert all(isinstance(figure, Figure) for figure in figures.values())


def test_looking_opens_no_test_speaker(tiny_store: Store, trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("test", "openings", "report"))
    run = sersearch.open_run(tmp_path / "run")
    assert run.leaderboard()["test_ua"].isna().all()
    assert run.predictions().empty
    assert len(run.trials()) == 3
    assert not (tmp_path / "run" / "test").exists()
    assert not (tmp_path / "run" / "openings").exists()


def test_a_trial_in_a_notebook_is_the_studys(trained: Run) -> None:
    """With the study's partition it is the same trial: the same key, and the same bits."""
    partition = {"train": 34, "validation": 33, "test": 33}
    seen = []
    store = trained.store.path
    result = sersearch.run_trial(
        store, "FST-CLDNN", w1=3, w2=2, partition=partition, report=lambda epoch: seen.append(epoch.epoch), **SMALL
    )
    on_record = trained.ledger.result(result.trial.key)
    assert on_record
    assert result.confusion == on_record.confusion
    assert [epoch.validation_loss for epoch in result.epochs] == [e.validation_loss for e in on_record.epochs]
    assert seen == [1, 2]
    with pytest.raises(InputError, match="these settings are 2 configurations"):
        sersearch.run_trial(store, "FST-CLDNN", w1=[3, 4], w2=2, partition=partition, **SMALL)
    with pytest.raises(InputError, match="w9"):
        sersearch.run_trial(store, "FST-CLDNN", w9=3, partition=partition)


def test_an_exported_model_predicts_a_folder(trained: Run, tiny_corpus: Path, tmp_path: Path) -> None:
    run = sersearch.open_run(trained.path)
    model = run.export(run.leaderboard()["key"][0], tmp_path / "model")
    assert model.record.configuration.description in repr(model)
    (tmp_path / "text.wav").write_text("no sound")
    table = model.predict([*sorted(tiny_corpus.rglob("*0.flac")), tmp_path / "text.wav"])
    assert table["problem"].isna().tolist() == [True] * 18 + [False]
    assert table["emotion"].isna().tolist() == [False] * 18 + [True]
    as_polars = sersearch.open_model(tmp_path / "model").predict(tiny_corpus, "polars")
    assert as_polars["emotion"].len() == 36
