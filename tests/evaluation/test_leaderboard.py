"""Who wins, and that the test partition is opened for winners alone: with models that are really trained."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score

from sersearch.evaluation.leaderboard import Group, make_leaderboard, select_winners
from sersearch.report.folder import make_report
from sersearch.run.ledger import Result
from sersearch.run.run import Run, start_run
from sersearch.store.reader import Store
from sersearch.study.configuration import Configuration, System
from sersearch.study.study import Trial, load_study
from sersearch.training.dataset import open_dataset
from sersearch.training.network import run_trial
from tests.generated import generate_run

STUDY = """
name = "tiny"
seeds = 2
spaces = [
    { name = "t", model = "T-CLDNN", w1 = [3, 6], w2 = 2 },
    { name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 },
]
[partition]
train = 34
validation = 33
test = 33
[training]
epochs = 2
maps = 4
cells = 4
dense = [6]
learning_rate = 0.01
"""


def train(run: Run, trials: Sequence[Trial]) -> None:
    data = open_dataset(run.store, run.partition)
    for trial in trials:
        run_trial(trial, data, attempt=run.ledger.begin(trial))


@pytest.fixture(scope="module")
def trained(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "study.toml").write_text(STUDY)
    run = start_run(folder / "run", load_study(folder / "study.toml"), tiny_store.path)
    trials = run.agenda().left
    train(run, trials[:-1])
    unfinished = make_leaderboard(run)
    assert not unfinished.complete
    assert [row.group.space for row in unfinished.rows] == ["t", "t"], "fst lacks a seed"
    assert not any(row.predictions for row in unfinished.rows)
    assert not (run.path / "test").exists()
    train(run, trials[-1:])
    return run


def test_the_test_partition_is_opened_once_for_each_winner(trained: Run) -> None:
    board = make_leaderboard(trained)
    openings = trained.path / "test" / "openings.jsonl"
    first = openings.read_text()
    opened = {(line["key"], line["condition"]) for line in map(json.loads, first.splitlines())}
    assert opened == {(r.trial.key, row.condition) for row in board.rows for r in row.results}
    assert len(first.splitlines()) == len(opened) == 2 * 2 * 2
    assert make_leaderboard(trained) == board
    assert openings.read_text() == first


def test_predictions_cover_the_test_speakers_and_no_one_else(trained: Run) -> None:
    for row in make_leaderboard(trained).rows:
        for file in row.predictions:
            table = pq.read_table(file).to_pandas()
            assert set(table["speaker"]) == set(trained.partition.test)
            assert table["noise"].isna().all() == (row.condition == "clean")
            copies = 3 if row.condition == "noisy" else 1
            assert len(table) == 2 * 3 * 2 * copies


def test_test_ua_is_the_mean_over_seeds(trained: Run) -> None:
    for entry in make_report(trained).entries:
        tables = [pq.read_table(file).to_pandas() for file in entry.row.predictions]
        by_seed = [100 * balanced_accuracy_score(table["emotion"], table["predicted"]) for table in tables]
        assert entry.test
        assert entry.test.overall.ua == pytest.approx(sum(by_seed) / 2)
        assert entry.test.seeds.best == pytest.approx(max(by_seed))
        assert len(entry.opened) == 2


def test_ties_go_to_fewer_parameters_then_to_the_key(trained: Run) -> None:
    results = select_winners(trained).groups[0].candidates
    (result, *_), *_ = results.values()

    def as_good(w1: int, parameters: int) -> tuple[Configuration, tuple[Result, ...]]:
        configuration = Configuration(model="T-CLDNN", w1=w1, w2=2)
        trial = Trial(configuration, 0, "")
        return configuration, (replace(result, trial=trial, parameters=parameters),)

    def best(*entries: tuple[Configuration, tuple[Result, ...]]) -> System:
        return Group("t", "T-CLDNN", "log-mels", dict(entries)).best("noisy")

    small, large, twin = as_good(3, 10), as_good(4, 20), as_good(5, 10)
    assert best(large, small) == small[0]
    assert best(small, twin) == best(twin, small) == min(small, twin, key=lambda e: e[1][0].trial.key)[0]


def test_a_pruned_trial_is_no_candidate(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("seeds = 2", "seeds = 1"))
    run = generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store)
    before = select_winners(run).rows[0]
    file = run.ledger.folder(before.key) / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stopped": "pruned"}))
    after = select_winners(run).rows[0]
    assert (len(before.group.candidates), len(after.group.candidates)) == (2, 1)
    assert after.key != before.key
