"""The contract of every system, and a third system through the whole tool without a change in the package."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Ledger, Result
from sersearch.run.storage import Folder
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.reader import vector_digests
from sersearch.store.vectors.table import import_table
from sersearch.study.conditions import CONDITIONS
from sersearch.study.configuration import Configuration, load_systems, parse_configuration
from sersearch.study.fold import Fold
from sersearch.study.study import parse_study
from sersearch.study.trial import StoreIdentity, Trial
from sersearch.training import system as system_module
from sersearch.training.system import Checkpoints, System, make_system, run_steps, run_trial, system_class
from tests.search.test_search import command, leaderboard, results, sersearch
from tests.trials import make_trial

TINY = Path(__file__).parent / "tiny_system.py"
load_systems([str(TINY)])

SYSTEMS: dict[str, dict[str, Any]] = {
    "network": {"model": "FST-CLDNN", "w1": 3, "w2": 2, "maps": 4, "cells": 4, "dense": [6], "epochs": 3},
    "adapted": {
        "model": "T-CLDNN",
        "w1": 3,
        "w2": 2,
        "maps": 4,
        "cells": 4,
        "dense": [6],
        "epochs": 3,
        "features": "mfccs",
        "normalisation": "speaker",
        "trim": True,
        "keep": "ua",
        "class_weights": True,
        "patience": "4 steps",
    },
    "svm by corpus": {"model": "SVM", "features": "own", "kernel": "rbf", "C": 3, "standardisation": "corpus"},
    "svm": {"model": "SVM", "features": "own", "kernel": "rbf", "C": 3},
    "tiny": {"model": "tiny"},
}
FOLD = Fold(train=("s0", "s1", "s2"), validation=("s3", "s4"), test=("s5",))


@pytest.fixture(scope="module")
def store(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny store with a table of two numbers per utterance."""
    folder = tmp_path_factory.mktemp("systems")
    shutil.copytree(tiny_store.path, folder / "store")
    opened = open_store(folder / "store")
    generator = np.random.default_rng(0)
    with (folder / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "a", "b"])
        for info in opened.speakers:
            for row in opened.table(info.speaker).to_pylist():
                if row["condition"] == "clean":
                    writer.writerow([row["utterance"], *generator.standard_normal(2).tolist()])
    import_table(opened, "own", folder / "own.csv")
    return opened


@pytest.fixture(params=SYSTEMS)
def trial(request: pytest.FixtureRequest, store: Store) -> Trial:
    configuration = parse_configuration(SYSTEMS[request.param])
    vectors = vector_digests(store)
    identity = StoreIdentity(fingerprint=store.fingerprint, speakers=("s0",), vectors=vectors)
    return make_trial(configuration=configuration, fold=FOLD, data=identity.data(configuration))


def open_data(store: Store, trial: Trial) -> Any:
    return system_class(trial.configuration).open_data(store, trial.sealed)


def figures(result: Result) -> dict[str, Any]:
    """A result but for what depends on the clock and the machine."""
    record = result.model_dump(exclude={"seconds", "finished", "host", "weights", "weights_sha256", "trial"})
    return record | {"epochs": [epoch.model_dump(exclude={"seconds"}) for epoch in result.epochs]}


def test_the_same_trial_gives_the_same_bits(trial: Trial, store: Store) -> None:
    first, second = (make_system(trial, open_data(store, trial)) for _ in range(2))
    for system in (first, second):
        list(run_steps(system))
        assert system.stopped
    assert figures(first.result()) == figures(second.result())
    assert first.weights() == second.weights()


@pytest.mark.parametrize("steps", [3, 7])
def test_interrupted_after_any_step_and_resumed_to_the_same_bits(
    trial: Trial, store: Store, tmp_path: Path, steps: int
) -> None:
    """Each attempt trains so many steps, in a system of its own, until one is over."""
    plain = make_system(trial, open_data(store, trial))
    epochs = list(run_steps(plain))
    fewest, most = trial.configuration.step_limits
    assert fewest <= max(1, len(epochs)) <= most
    ledger = Ledger(Folder(tmp_path / "run"))
    system, seen = interrupted_every(steps, trial, store, ledger)
    assert [epoch.epoch for epoch in seen] == [epoch.epoch for epoch in epochs], "each epoch ends once"
    assert figures(system.result()) == figures(plain.result())
    committed = ledger.result(trial.key)
    assert committed
    assert figures(committed) == figures(plain.result())
    assert ledger.weights(committed) == plain.weights()


def after(steps: int) -> Callable[[], bool]:
    """What is asked before each step, and says when so many were trained."""
    asked = itertools.count()
    return lambda: next(asked) >= steps


def interrupted_every(steps: int, trial: Trial, store: Store, ledger: Ledger) -> tuple[System, list[Epoch]]:
    """Train a trial in attempts of so many steps; the system of the last one, and the epochs of all."""
    seen: list[Epoch] = []
    while True:
        system = make_system(trial, open_data(store, trial))
        seen += run_steps(system, ledger.begin(trial), interrupted=after(steps))
        if system.stopped:
            return system, seen


def test_a_worker_sees_no_test_speaker(trial: Trial, store: Store, tmp_path: Path) -> None:
    """NetworkSystem works, and gives the same, where the test speaker's files are gone."""
    whole = run_trial(trial, open_data(store, trial))
    shutil.copytree(store.path, tmp_path / "store")
    for file in (tmp_path / "store").rglob("s5*"):
        file.unlink()
    sealed = Store(tmp_path / "store", store.manifest)
    assert figures(run_trial(trial.sealed, open_data(sealed, trial))) == figures(whole)


def test_a_loaded_model_predicts_every_copy_of_the_test_speakers(trial: Trial, store: Store) -> None:
    system = make_system(trial, open_data(store, trial))
    list(run_steps(system))
    loaded = make_system(trial, open_data(store, trial))
    loaded.load(system.weights())
    for condition in trial.configuration.conditions:
        prediction = loaded.predict(store, FOLD.test, condition)
        copies = 6 if condition == "clean" else 18
        assert prediction.emotion_U.shape == (copies,)
        assert set(prediction.emotion_U.tolist()) <= set(range(len(store.emotions)))
        assert prediction.scores_UE is not None
        assert prediction.scores_UE.shape == (copies, len(store.emotions))
        if prediction.score == "probability":
            chosen_U = prediction.scores_UE[np.arange(copies), prediction.emotion_U]
            assert (chosen_U == prediction.scores_UE.max(1)).all()
            assert prediction.scores_UE.sum(1) == pytest.approx(np.ones(copies), abs=1e-6)
    validated = loaded.predict(store, FOLD.validation, "clean").emotion_U
    labels = [row for s in FOLD.validation for row in store.table(s).to_pylist() if row["condition"] == "clean"]
    right = sum(store.emotions[p] == row["emotion"] for p, row in zip(validated, labels, strict=True))
    counts = np.sum(list(system.result().confusion["clean"].values()), axis=0)
    assert np.trace(counts) == right, "the figures are those of the model that is kept"


def test_what_a_result_says(trial: Trial, store: Store) -> None:
    result = run_trial(trial, open_data(store, trial))
    assert Result.model_validate_json(result.model_dump_json()) == result
    assert result.conditions == tuple(c for c in CONDITIONS if c in trial.configuration.conditions)
    assert all(list(counts) == list(FOLD.validation) for counts in result.confusion.values())
    assert (result.best is None) == (result.epochs == ())
    assert result.parameters > 0
    counted = trial.configuration.parameters(len(store.emotions))
    assert counted is None or counted.total == result.parameters


def test_what_a_configuration_says(trial: Trial) -> None:
    configuration = trial.configuration
    assert configuration.title in configuration.description
    assert parse_configuration(configuration.record()) == configuration
    fewest, most = configuration.step_limits
    assert 1 <= fewest <= most
    assert configuration.shapes.feasible
    assert configuration.relative_cost() > 0
    assert bool(configuration.work()) == (configuration.minibatch_bytes(6, 100) is not None)


def test_each_module_represents_each_copy(trial: Trial, store: Store) -> None:
    system = make_system(trial, open_data(store, trial))
    system.load(system.weights())
    rows = np.array([0, 5, 17])
    representations = system.represent(store, FOLD.test, rows)
    assert tuple(representations) == trial.configuration.modules
    whole = system.represent(store, FOLD.test, np.arange(18))
    for module, x_UD in representations.items():
        assert x_UD.shape[0] == 3
        assert x_UD.dtype == np.float32
        np.testing.assert_allclose(x_UD, whole[module][rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("step_s", "every_s", "takes_s", "expected"),
    [
        (1.0, 7.0, 0.0, [7.0, 14.0, 21.0, 28.0]),
        (0.1, 7.0, 0.0, []),
        (10.0, 7.0, 0.0, [10.0 * number for number in range(1, 31)]),
        (1.0, 0.0, 0.0, [float(number) for number in range(1, 31)]),
        (1.0, 7.0, 1.0, [7.0, 27.0]),
    ],
    ids=["in long trials", "not in short ones", "after long steps", "after each step", "a twentieth of the time"],
)
def test_when_checkpoints_are_written(
    monkeypatch: pytest.MonkeyPatch, step_s: float, every_s: float, takes_s: float, expected: list[float]
) -> None:
    """Thirty steps by a clock that goes only while a step is trained or a checkpoint is written."""
    now_s = 0.0
    written: list[float] = []

    def write(checkpoint: bytes, epochs: object) -> None:
        nonlocal now_s
        written.append(now_s)
        now_s += takes_s

    monkeypatch.setattr(system_module.time, "monotonic", lambda: now_s)
    checkpoints = Checkpoints(Mock(), Mock(save=write), every_s)
    for _ in range(30):
        now_s += step_s
        checkpoints.has_new = True
        if checkpoints.due:
            checkpoints.write()
    assert written == pytest.approx(expected)
    checkpoints.has_new = False
    checkpoints.write()
    assert len(written) == len(expected), "there is nothing new"


STUDY = """
name = "own"
systems = ["tiny_system.py"]
spaces = [{ name = "tiny", model = "tiny", rate = [0.1, 0.3, 1.0, 3.0], protocol = "partition" },
          { name = "left out", model = "tiny", rate = [0.1, 1.0], protocol = "loso" }]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    shutil.copy(TINY, tmp_path / "tiny_system.py")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


@pytest.mark.slow("it runs three searches with the real Ray, of which one is killed")
def test_a_third_system_goes_the_whole_way(study: Path, tiny_store: Store, tmp_path: Path) -> None:
    plan = sersearch("plan", study, "--store", tiny_store.path)
    assert plan.returncode == 0, plan.stderr
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    words = ("search", study, "--store", tiny_store.path, "--run")
    done = sersearch(*words, plain)
    assert done.returncode == 0, done.stderr
    assert "all 16 trials are done" in done.stdout
    with subprocess.Popen(
        command(*words, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        deadline = time.monotonic() + 120
        while len(results(killed)) < 3:
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    before = results(killed)
    assert sersearch("resume", killed).returncode == 0
    assert before.items() <= results(killed).items()
    assert leaderboard(killed) == leaderboard(plain)
    (line, *_) = csv.DictReader(leaderboard(plain).decode().splitlines())
    assert line["model"] == "tiny"
    assert line["test_ua"]
    probed = CliRunner().invoke(app, ["probe", str(plain), "--format", "json"])
    assert probed.exit_code == 0, probed.output
    (winner,) = json.loads(probed.stdout)["winners"]
    assert [module["name"] for module in winner["modules"]] == ["raw", "mlp"]
    report = (plain / "report" / "leaderboard.md").read_text()
    assert "tiny (log-mels)" in report
    rerun = sersearch("rerun", plain, line["key"])
    assert "the same to the last bit in 4 epochs" in rerun.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no Python file"),
        ("import nothing_of_this_name", "can't be imported (ModuleNotFoundError"),
        ("x = 1", "defines no subclass"),
        (
            "from typing import Literal\nfrom sersearch.study.configuration import Configuration\n"
            "class C(Configuration):\n    model: Literal['LDNN']\n",
            "the model LDNN exists already",
        ),
    ],
)
def test_a_file_that_is_no_system_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError) as caught:
        parse_study({"name": "x", "systems": [str(file)], "spaces": [{"name": "l", "model": "LDNN"}]}, "x.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_class_is_abstract() -> None:
    construct: Callable[..., System] = System
    with pytest.raises(TypeError, match="abstract"):
        construct(None, None)
    assert isinstance(parse_configuration(SYSTEMS["tiny"]), Configuration)
