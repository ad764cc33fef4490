"""A row of the leaderboard is trained again: for real, with a tampered record, and where it can't be."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.run.run import Run, start_run
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.training.dataset import open_dataset
from sersearch.training.rerun import rerun
from sersearch.training.system import run_trial
from tests.records import forge

STUDY = """
name = "tiny"
spaces = [{ name = "fst", model = "FST-CLDNN", w1 = [3, 6], w2 = 2 }]
[training]
epochs = 3
maps = 4
cells = 4
dense = [6]
"""


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    (tmp_path / "study.toml").write_text(STUDY)
    made = start_run(tmp_path / "run", load_study(tmp_path / "study.toml"), tiny_store.path)
    trial = made.agenda().left[0]
    run_trial(trial, open_dataset(made.store, made.partition), attempt=made.ledger.begin(trial))
    return made


def test_the_same_to_the_last_bit(run: Run) -> None:
    (key,) = run.ledger.results()
    before = sorted(path for path in run.path.rglob("*"))
    made = rerun(run, key[:6])
    assert made.same
    assert made.first_difference is None
    assert made.changed == {}
    assert sorted(path for path in run.path.rglob("*")) == before, "it leaves the run as it is"
    done = CliRunner().invoke(app, ["rerun", str(run.path), key])
    assert done.exit_code == 0
    assert f"{key}: the same to the last bit in 3 epochs" in done.output


def test_a_figure_that_is_not_the_same(run: Run) -> None:
    (key,) = run.ledger.results()

    def change(record: dict[str, Any]) -> None:
        record["epochs"][1]["validation_loss"] += 1e-12
        record["environment"]["torch"] = "1.0"

    forge(run.path / "trials" / key / "result.json", change)
    made = rerun(run, key)
    assert not made.same
    assert made.first_difference == 2
    assert made.changed["torch"][0] == "1.0"
    done = CliRunner().invoke(app, ["rerun", str(run.path), key])
    assert done.exit_code == 1
    assert "not the same from epoch 2" in done.output
    assert "torch was 1.0 and is 2." in done.output


def test_what_cannot_be_trained_again(run: Run) -> None:
    done, left = next(iter(run.ledger.results())), run.agenda().left[0]
    with pytest.raises(InputError, match="has no trial with this key"):
        rerun(run, "ffff")
    run.ledger.begin(left)
    with pytest.raises(InputError, match="the prefix matches 2 trials in"):
        rerun(run, "")
    with pytest.raises(InputError, match="has no result"):
        rerun(run, left.key)
    file = run.path / "trials" / done / "result.json"
    forge(file, lambda record: record.update(stopped="pruned"))
    with pytest.raises(InputError, match="was stopped after 3 epochs"):
        rerun(run, done)
