"""Who wins, and that the test partition is opened for winners alone: with models that are really trained."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.evaluation.counts import count_test_predictions, count_validation_predictions
from sersearch.evaluation.leaderboard import Candidates, select_winners
from sersearch.evaluation.test_partition import evaluate_winners, opened_at, read_predictions, trained_system
from sersearch.report.folder import read_report
from sersearch.run.ledger import Result
from sersearch.run.run import Run, open_run, start_run
from sersearch.statistics.counts import mean_recall
from sersearch.store.reader import Store
from sersearch.study.configuration import Configuration, NetworkConfiguration
from sersearch.study.study import load_study
from sersearch.study.trial import Trial
from sersearch.training.dataset import open_dataset
from sersearch.training.system import run_trial
from tests.generated import generate_run
from tests.records import forge
from tests.trials import make_trial

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
    unfinished = evaluate_winners(run, print)
    assert not unfinished.complete
    assert [winner.candidates.space for winner in unfinished.winners] == ["t", "t"], "fst lacks a seed"
    assert not any(winner.predictions for winner in unfinished.winners)
    assert run.storage.list("test/") == run.storage.list("openings/") == []
    train(run, trials[-1:])
    return run


@pytest.fixture(scope="module")
def evaluated(trained: Run) -> Run:
    said: list[str] = []
    assert not select_winners(trained).tested
    assert evaluate_winners(trained, said.append).tested
    assert said == [f"opening the test speakers of {trained.path} for 4 winners that were not tested before"]
    return trained


def test_reading_opens_no_test_speaker(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("test", "openings"))
    untested = open_run(tmp_path / "run")
    assert select_winners(untested).complete
    facts = read_report(untested)
    assert (
        facts.unfinished == f"Not tested: `sersearch report {untested.path}` opens the test speakers for the winners."
    )
    assert all(row.test is None for row in facts.rows)
    for words in (["status", untested.path], ["compare", untested.path, trained.path]):
        assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    assert untested.storage.list("test/") == untested.storage.list("openings/") == []


def test_the_test_speakers_are_opened_once_for_each_winner(evaluated: Run) -> None:
    board = select_winners(evaluated)
    openings = {name: evaluated.storage.get(f"openings/{name}") for name in evaluated.storage.list("openings/")}
    opened = {(line["key"], line["condition"]) for line in map(json.loads, filter(None, openings.values()))}
    assert opened == {(r.trial.key, winner.condition) for winner in board.winners for r in winner.results}
    assert len(openings) == len(opened) == 2 * 2 * 2
    assert all(opened_at(evaluated, result, winner.condition) for winner in board.winners for result in winner.results)
    said: list[str] = []
    assert evaluate_winners(evaluated, said.append) == board
    assert said == []
    assert {name: evaluated.storage.get(f"openings/{name}") for name in evaluated.storage.list("openings/")} == openings


def test_predictions_cover_the_test_speakers_and_no_one_else(evaluated: Run) -> None:
    for winner in select_winners(evaluated).winners:
        for predictions in read_predictions(evaluated, winner):
            table = predictions.to_pandas()
            assert set(table["speaker"]) == set(evaluated.partition.test)
            assert table["noise"].isna().all() == (winner.condition == "clean")
            copies = 3 if winner.condition == "noisy" else 1
            assert len(table) == 2 * 3 * 2 * copies


def test_predictions_hold_the_posteriors_of_each_copy_computed_alone(evaluated: Run) -> None:
    columns = [f"probability_{emotion}" for emotion in evaluated.store.emotions]
    for winner in select_winners(evaluated).winners:
        table = read_predictions(evaluated, winner)[0].to_pandas()
        probability_UE = table[columns].to_numpy()
        assert probability_UE.dtype == np.float32
        assert [evaluated.store.emotions[best] for best in probability_UE.argmax(1)] == table["predicted"].tolist()
        (result, fold), *_ = winner.trials
        one_speaker = trained_system(evaluated, result).predict(evaluated.store, fold.test[:1], winner.condition)
        assert one_speaker.scores_UE is not None
        assert (one_speaker.scores_UE == probability_UE[: len(one_speaker.scores_UE)]).all(), "to the last bit"


def test_test_ua_is_the_mean_over_seeds(evaluated: Run) -> None:
    for row in read_report(evaluated).rows:
        tables = [predictions.to_pandas() for predictions in read_predictions(evaluated, row.winner)]
        by_seed = [100 * balanced_accuracy_score(table["emotion"], table["predicted"]) for table in tables]
        assert row.test
        assert row.test.overall.ua == pytest.approx(sum(by_seed) / 2)
        assert row.test.seeds.best == pytest.approx(max(by_seed))
        assert len(row.opened) == 2


def test_counts_of_each_seed_and_speaker_add_up_to_the_rows(evaluated: Run) -> None:
    for row in read_report(evaluated).rows:
        tested, validated = count_test_predictions(evaluated, row.winner), count_validation_predictions(row.winner)
        assert [entry.key for entry in tested] == [result.trial.key for result in row.winner.results]
        assert [(entry.fold, entry.seed) for entry in tested] == [(0, 0), (0, 1)]
        assert {entry.speakers for entry in tested} == {evaluated.partition.test}
        assert {entry.speakers for entry in validated} == {evaluated.partition.validation}
        noisy = row.winner.condition == "noisy"
        for entry in tested:
            assert entry.clean_SEE.sum() == 2 * 3 * 2
            assert entry.noisy_SEE.sum() == (2 * 3 * 2 * 2 if noisy else 0)
        assert row.test
        assert sum(entry.all_SEE.sum(0) for entry in tested).tolist() == row.test.confusion
        for entry, result in zip(validated, row.winner.results, strict=True):
            assert mean_recall(entry.all_SEE.sum(0)) == pytest.approx(result.ua("noisy"))
            assert mean_recall(entry.clean_SEE.sum(0)) == pytest.approx(result.ua("clean"))


def test_ties_go_to_fewer_parameters_then_to_the_key(trained: Run) -> None:
    (first, *_) = select_winners(trained).candidates
    ((result, *_),), *_ = first.results.values()

    def as_good(w1: int, parameters: int) -> tuple[NetworkConfiguration, tuple[Result, ...]]:
        configuration = NetworkConfiguration(model="T-CLDNN", w1=w1, w2=2)
        trial = make_trial(configuration, 0, "")
        return configuration, (result.model_copy(update={"trial": trial, "parameters": parameters}),)

    def best(*entries: tuple[NetworkConfiguration, tuple[Result, ...]]) -> Configuration:
        results: dict[Configuration, tuple[tuple[Result, ...]]] = {c: (of_seeds,) for c, of_seeds in entries}
        return Candidates("t", "T-CLDNN", "log-mels", "partition", first.folds, results).best("noisy")

    small, large, twin = as_good(3, 10), as_good(4, 20), as_good(5, 10)
    assert best(large, small) == small[0]
    assert best(small, twin) == best(twin, small) == min(small, twin, key=lambda e: e[1][0].trial.key)[0]


def test_a_pruned_trial_is_no_candidate(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("seeds = 2", "seeds = 1"))
    run = generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store)
    before = select_winners(run).winners[0]
    file = run.path / "trials" / before.key / "result.json"
    forge(file, lambda record: record.update(stopped="pruned"))
    after = select_winners(run).winners[0]
    assert (len(before.candidates.results), len(after.candidates.results)) == (2, 1)
    assert after.key != before.key
