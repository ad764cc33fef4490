import json
from pathlib import Path

import pytest

from sersearch.run.ledger import Epoch, Ledger, Result
from sersearch.run.storage import Folder
from sersearch.search.pruning import Pruner
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import Search
from tests.search.test_search import sersearch
from tests.trials import make_trial


def result(seed: int, uas: list[float], stopped: str = "epochs") -> Result:
    epochs = tuple(
        Epoch(epoch=number, train_loss=1.0, validation_loss=1.0, ua_noisy=ua, ua_clean=0.0, seconds=0.1)
        for number, ua in enumerate(uas, start=1)
    )
    counts = {"noisy": {"s3": [[1, 0], [0, 1]]}}
    trial = make_trial(NetworkConfiguration(model="LDNN"), seed)
    return Result(
        trial=trial,
        epochs=epochs,
        best=0,
        stopped=stopped,
        seconds=1.0,
        parameters=1,
        confusion=counts,
        environment={},
    )


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_what_lags_is_stopped_and_what_leads_goes_on(kind: str) -> None:
    done = [result(seed, [50.0 + seed] * 8) for seed in range(8)]
    for uas, lags in (([20.0] * 8, True), ([90.0] * 8, False)):
        pruner = Pruner(Search(pruner=kind), done)
        said = [pruner.lags(result(99, uas).trial, epoch) for epoch in result(99, uas).epochs]
        assert any(said) == lags


def test_none_stops_nothing() -> None:
    pruner = Pruner(Search(), [result(seed, [90.0] * 8) for seed in range(8)])
    new = result(99, [0.0] * 8)
    assert not any(pruner.lags(new.trial, epoch) for epoch in new.epochs)


def test_a_trial_is_compared_within_its_fold() -> None:
    done = [result(seed, [90.0] * 8) for seed in range(8)]
    trial = result(99, [20.0] * 8).trial
    other_fold = trial.fold.model_copy(update={"validation": trial.fold.test, "test": trial.fold.validation})
    pruner = Pruner(Search(pruner="median"), done)
    elsewhere = trial.model_copy(update={"fold": other_fold})
    assert not any(pruner.lags(elsewhere, epoch) for epoch in result(99, [20.0] * 8).epochs)
    assert any(pruner.lags(trial, epoch) for epoch in result(99, [20.0] * 8).epochs)


@pytest.mark.slow("it starts a search with the real Ray")
def test_a_search_with_asha_says_what_it_pruned(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "asha.toml").write_text(
        """
        spaces = [{ name = "lr", model = "LDNN", learning_rate = [0.02, 0.01, 0.005, 0.00001, 0.00002, 0.00003] }]
        [training]
        epochs = 6
        patience = 6
        cells = 8
        dense = [8]
        [search]
        pruner = "asha"
        """
    )
    run = tmp_path / "run"
    done = sersearch("search", tmp_path / "asha.toml", "--store", tiny_store.path, "--run", run)
    assert done.returncode == 0, done.stderr
    results = Ledger(Folder(run)).results().values()
    assert len(results) == 6
    pruned = [r for r in results if r.stopped == "pruned"]
    assert pruned
    assert all(len(r.epochs) < 6 for r in pruned)
    assert all(Ledger(Folder(run)).weights(r) for r in pruned)
    assert any(len(r.epochs) == 6 for r in results)
    assert sersearch("report", run).returncode == 0
    assert json.loads(sersearch("status", run, "--verify", "--format", "json").stdout)["faults"] == 0
