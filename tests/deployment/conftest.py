"""Runs of small networks and SVMs, trained without Ray and tested."""

from pathlib import Path

import pytest

from sersearch.evaluation.test_partition import evaluate_winners
from sersearch.run.run import Run, start_run
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.training.system import run_trial, system_class

NETWORKS = """
name = "small networks"
spaces = [
    { name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 },
    { name = "st", model = "ST-CLDNN", h1 = 8, h2 = 3, w1 = 5, w2 = 2, features = "mfccs", cepstra = 20 },
    { name = "ldnn", model = "LDNN" },
]
[partition]
train = 34
validation = 33
test = 33
[features]
FEATURES
[training]
epochs = 2
maps = 4
cells = 4
dense = [6]
learning_rate = 0.01
"""


def train(folder: Path, text: str, store: Store) -> Run:
    """Train a study's trials and test the winners."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(text)
    run = start_run(folder / "run", load_study(folder / "study.toml"), store.path)
    for trial in run.agenda().left:
        data = system_class(trial.configuration).open_data(run.store, trial)
        run_trial(trial, data, attempt=run.ledger.begin(trial))
    assert evaluate_winners(run, print).tested
    return run


@pytest.fixture(scope="session")
def trained(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three networks, normalised by the training speakers."""
    folder = tmp_path_factory.mktemp("deployed")
    return train(folder, NETWORKS.replace("FEATURES", ""), tiny_store)
