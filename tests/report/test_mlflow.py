"""MLflow's own client reads back what an export wrote."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.report.mlflow import export_mlflow
from sersearch.run.run import Run
from sersearch.store.reader import Store
from tests.generated import generate_run

mlflow = pytest.importorskip("mlflow", reason="MLflow is missing: pip install 'sersearch[mlflow]'")

STUDY = """
name = "generated"
spaces = [
    { name = "ldnn", model = "LDNN" },
    { name = "fst", model = "FST-CLDNN", w1 = [3, 5], w2 = 2 },
]
[partition]
train = 34
validation = 33
test = 33
"""

pytestmark = [
    pytest.mark.slow("MLflow sets a database up in seconds"),
    # MLflow's and its dependencies' own.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def run(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "study.toml").write_text(STUDY)
    return generate_run(folder / "a run", folder / "study.toml", tiny_store)


def test_every_figure_is_read_back_and_added_once(run: Run, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    expected = {"a run generated ldnn": 1, "a run generated fst": 2}
    done = CliRunner().invoke(app, ["export-mlflow", str(run.path), uri])
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if "trials added" in line] == [
        f"{name}: {count} trials added" for name, count in expected.items()
    ]
    client = mlflow.MlflowClient(uri)
    found: dict[str, Any] = {}
    for name, count in expected.items():
        runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
        assert len(runs) == count
        found |= {each.data.tags["key"]: each for each in runs}
    results = run.ledger.results()
    assert found.keys() == results.keys()
    for key, each in found.items():
        result = results[key]
        assert each.info.status == "FINISHED"
        assert each.data.metrics["validation_ua_noisy"] == pytest.approx(result.ua("noisy"))
        assert each.data.params["model"] == result.trial.configuration.model
        history = client.get_metric_history(each.info.run_id, "validation_loss")
        assert [(m.step, m.value) for m in history] == [
            (e.epoch, pytest.approx(e.validation_loss)) for e in result.epochs
        ]
    # One that was cut off is completed; the others are left alone.
    broken = next(iter(found.values()))
    client.set_terminated(broken.info.run_id, "KILLED")
    assert sum(export_mlflow(run, uri).values()) == 1
    assert client.get_run(broken.info.run_id).info.status == "FINISHED"
    assert sum(export_mlflow(run, uri).values()) == 0


def test_what_mlflow_cannot_use_is_one_line(run: Run, tmp_path: Path) -> None:
    for uri in ("http://127.0.0.1:9", "nosuchbase://x", f"file:{tmp_path}/mlruns"):
        with pytest.raises(InputError, match="MLflow can't use it"):
            export_mlflow(run, uri)
