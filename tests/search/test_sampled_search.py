"""A sampler with the real Ray, killed for real, and its trials in an Optuna storage."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest

from sersearch.run.run import open_run
from sersearch.search.export import export_optuna
from sersearch.store.reader import Store
from tests.search.test_search import attempts, command, leaderboard, results, sersearch

pytestmark = pytest.mark.slow("each search starts the real Ray, and some are killed and resumed")

STUDY = """
name = "sampled"
[search]
sampler = "tpe"
trials = 14
[[spaces]]
name = "either"
model = ["S-CLDNN", "T-CLDNN"]
h1 = [5, 22]
h2 = 3
w1 = "3:8"
w2 = 2
learning_rate = { log = [0.001, 0.03] }
[training]
epochs = 2
maps = 2
cells = 3
dense = [4]
"""
TRIALS = 14
CORES = os.cpu_count() or 1
PAST_STARTUP = 11
"""Trials after which TPE decides by what it was told: it draws ten at random first."""


@pytest.fixture(scope="module")
def finished(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("sampled")
    (folder / "sampled.toml").write_text(STUDY)
    done = sersearch("search", folder / "sampled.toml", "--store", tiny_store.path, "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    assert f"all {TRIALS} trials are done" in done.stdout
    return folder / "run"


def suggestions(run: Path) -> list[bytes]:
    """What the sampler drew, in order."""
    return [path.read_bytes() for path in sorted(run.glob("suggestions/*/*.json"))]


def test_each_suggestion_is_trained_once(finished: Path) -> None:
    assert len(results(finished)) == TRIALS
    assert set(attempts(finished).values()) == {1}
    assert len(suggestions(finished)) == TRIALS
    status = json.loads(sersearch("status", finished, "--format", "json").stdout)
    assert (status["done"], status["total"], status["left"], status["complete"]) == (TRIALS, TRIALS, 0, True)
    before = (results(finished), suggestions(finished))
    assert sersearch("resume", finished).returncode == 0
    assert (results(finished), suggestions(finished)) == before


def test_killed_and_resumed_it_suggests_the_same(finished: Path, tiny_store: Store, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "sampled.toml"
    study.write_text(STUDY)
    words = command("search", study, "--store", tiny_store.path, "--run", run)
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        deadline = time.monotonic() + 240
        while len(results(run)) < PAST_STARTUP:
            assert driver.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    before = results(run)
    assert len(before) < TRIALS
    # Half as many slots as at the first launch, as on another cluster.
    resumed = sersearch("search", study, "--store", tiny_store.path, "--run", run, "--set", f"resources.cpus={CORES}")
    assert resumed.returncode == 0, resumed.stderr
    assert before.items() <= results(run).items(), "a finished trial was trained or written again"
    assert suggestions(run) == suggestions(finished)
    assert leaderboard(run) == leaderboard(finished)


def test_each_fold_has_its_sampler_killed_or_not(tiny_store: Store, tmp_path: Path) -> None:
    study = tmp_path / "folds.toml"
    folds = "[partition]\nfolds = 3\nvalidation = 2\n"
    study.write_text(STUDY.replace("trials = 14", "trials = 3") + folds)
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    done = sersearch("search", study, "--store", tiny_store.path, "--run", plain)
    assert done.returncode == 0, done.stderr
    assert "all 9 trials are done" in done.stdout
    words = command("search", study, "--store", tiny_store.path, "--run", killed)
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        deadline = time.monotonic() + 240
        while len(results(killed)) < 4:
            assert driver.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    before = results(killed)
    assert sersearch("resume", killed).returncode == 0
    assert before.items() <= results(killed).items()
    assert len(results(killed)) == 9
    assert len(list((killed / "suggestions").iterdir())) == 3, "a record for each fold"
    assert suggestions(killed) == suggestions(plain)
    assert leaderboard(killed) == leaderboard(plain)
    run = open_run(killed)
    tested = {result.trial.fold.validation for result in run.ledger.results().values()}
    assert tested == {fold.validation for fold in run.folds}


def test_more_trials_are_drawn_in_place(finished: Path, tiny_store: Store, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "sampled.toml"
    study.write_text(STUDY.replace("trials = 14", "trials = 4"))
    assert sersearch("search", study, "--store", tiny_store.path, "--run", run).returncode == 0
    before = results(run)
    assert len(before) == 4
    study.write_text(STUDY)
    assert sersearch("search", study, "--store", tiny_store.path, "--run", run).returncode == 0
    assert before.items() <= results(run).items()
    assert leaderboard(run) == leaderboard(finished)


def test_slots_that_a_window_leaves_idle_are_named(tiny_store: Store, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "sampled.toml"
    study.write_text(STUDY.replace("trials = 14", "trials = 2\nwindow = 1"))
    cores = ("--set", f"resources.cpus={CORES / 2}")
    done = sersearch("search", study, "--store", tiny_store.path, "--run", run, *cores)
    assert done.returncode == 0, done.stderr
    assert "2 trials fit on the cluster, but this study has at most 1 to train at a time" in " ".join(
        done.stderr.split()
    )
    assert not (run / "slots.json").exists(), "the study sets the window"


def test_an_optuna_storage_holds_the_run(finished: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    first = sersearch("export-optuna", finished, storage)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"run sampled either: {TRIALS} trials added\n"
    again = sersearch("export-optuna", finished, storage)
    assert again.stdout == "run sampled either: 0 trials added\n"
    study = optuna.load_study(study_name="run sampled either", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["validation UA, noisy (%)"]
    said = {name: study.user_attrs[name] for name in ("run", "study", "space", "sampler", "objective", "fingerprint")}
    assert said == {
        "run": str(finished.resolve()),
        "study": "sampled",
        "space": "either",
        "sampler": "tpe",
        "objective": "noisy",
        "fingerprint": open_run(finished).identity.fingerprint,
    }
    run = open_run(finished)
    found = {trial.user_attrs["key"]: trial for trial in study.trials}
    assert found.keys() == results(finished).keys()
    for key, trial in found.items():
        result = run.ledger.result(key)
        assert result
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert trial.value == result.ua("noisy")
        assert trial.intermediate_values == {epoch.epoch: epoch.ua_noisy for epoch in result.epochs}
        assert trial.user_attrs["ua_clean"] == result.ua("clean")
        assert trial.user_attrs["parameters"] == result.parameters
        assert trial.user_attrs["seed"] == 0
        assert all(getattr(result.trial.configuration, name) == value for name, value in trial.params.items())
        assert ("h1" in trial.params) == (trial.params["model"] == "S-CLDNN")
        assert trial.datetime_start
        assert trial.datetime_complete
        assert trial.datetime_start < trial.datetime_complete


def test_a_grid_with_a_failure_in_an_optuna_storage(finished: Path, tiny_store: Store, tmp_path: Path) -> None:
    study, run = tmp_path / "grid.toml", tmp_path / "a run"
    study.write_text(
        """
        spaces = [{ name = "lr", model = "LDNN", learning_rate = [0.001, 1e30], dense = [[4], [5, 4]] }]
        [training]
        epochs = 1
        cells = 2
        """
    )
    assert sersearch("search", study, "--store", tiny_store.path, "--run", run).returncode == 1
    storage = f"sqlite:///{tmp_path}/studies.db"
    assert export_optuna(open_run(run), storage) == {"a run grid lr": 4}
    assert export_optuna(open_run(run), storage) == {"a run grid lr": 0}
    trials = optuna.load_study(study_name="a run grid lr", storage=storage).trials
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert all(
        trial.params["learning_rate"] == 1e30 and "FloatingPoint" in trial.user_attrs["error"] for trial in failed
    )
    assert {trial.params["dense"] for trial in trials} == {"4", "5-4"}


@pytest.mark.parametrize("storage", ["studies.db", "sqlite:////nowhere/at/all.db", "nosuchbase://x"])
def test_a_storage_that_cannot_be_opened_is_refused(finished: Path, storage: str) -> None:
    refused = sersearch("export-optuna", finished, storage)
    assert refused.returncode == 2
    assert f"{storage}: can't be opened as an Optuna storage (" in refused.stderr
    assert refused.stderr.count("\n") == 1
