"""Worker and benchmark with the GPU's form of the kernels, on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sersearch.models.kernels import gpu
from sersearch.run.run import Run, start_run
from sersearch.search import worker
from sersearch.search.shares import least_share
from sersearch.store.reader import Store
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial
from sersearch.training.dataset import Dataset, Resident, Utterances
from sersearch.training.network import NetworkSystem
from sersearch.training.system import Device
from tests.models.test_models import SMALL

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    spaces = [{"name": "fst", "model": "FST-CLDNN", "w1": [3, 8], "w2": 2, "features": ["log-mels", "mfccs"]}]
    table = {"name": "x", "spaces": spaces, "partition": {"train": 50, "validation": 25, "test": 25}}
    table |= {"training": SMALL | {"epochs": 1}, "resources": {"gpus": 0.25, "retries": 3}}
    return start_run(tmp_path / "run", parse_study(table, "x.toml"), tiny_store.path)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let workers train on the CPU with the GPU's kernels; returns the devices that they asked for."""
    named: list[str] = []

    def training(trial: Trial, data: Dataset, device: Device) -> NetworkSystem:
        named.append(device)
        return NetworkSystem(trial, data)

    monkeypatch.setattr(gpu, "backend_for", lambda device: "gpu")
    monkeypatch.setattr(worker, "make_system", training)
    monkeypatch.setattr(worker, "has_gpu", lambda: True)
    return named


def record(run: Run, trial: Trial) -> dict[str, object]:
    trial_record = trial.sealed.model_dump(mode="json")
    where = {"run": str(run.path), "store": str(run.store_path), "session": "x"}
    return {"key": trial.key, "trial": trial_record, **where}


def test_frames_move_once_for_all_trials_of_a_worker(
    run: Run, trained_on: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[tuple[str, ...]] = []
    moving = Utterances._moved

    def counted(utterances: Utterances, device: str) -> Resident:
        moved.append(utterances.speakers)
        return moving(utterances, device)

    monkeypatch.setattr(Utterances, "_moved", counted)
    worker._OPENED.clear()
    trials = run.agenda().left
    works = worker.Worker.__new__(worker.Worker)
    for trial in trials:
        works.setup(record(run, trial))
        assert works.step()["outcome"] == "committed"
    assert len(run.ledger.results()) == len(trials) == 4
    assert trained_on == ["cuda"] * 4
    assert moved == [run.partition.train, run.partition.validation]


def test_too_little_memory_for_the_frames_is_the_trials_failure(
    run: Run, trained_on: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moving(utterances: Utterances, device: str) -> Resident:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.30 GiB.")

    monkeypatch.setattr(Utterances, "_moved", moving)
    worker._OPENED.clear()
    trial = run.agenda().left[0]
    works = worker.Worker.__new__(worker.Worker)
    for share in (0.25, 0.5, 1.0):
        assert least_share(0.25, run.ledger.failures(trial.key)) == share
        works.setup(record(run, trial))
        report = works.step()
        assert report["outcome"] == "failed"
    assert run.ledger.failures(trial.key)[0] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 3.30 GiB."
    assert trained_on == ["cuda"] * 3


def test_a_gpu_that_ray_grants_and_torch_does_not_find_is_the_nodes_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "has_gpu", lambda: False)
    trial = run.agenda().left[0]
    works = worker.Worker.__new__(worker.Worker)
    works.setup(record(run, trial))
    report = works.step()
    assert report["outcome"] == "refused"
    assert report["reason"] == "Ray grants a GPU here, but torch finds no CUDA device"
    assert run.ledger.failures(trial.key) == []


def benchmark(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a process in which neither Ray nor Optuna can be imported."""
    code = (
        "import runpy, sys; sys.modules.update(ray=None, optuna=None); sys.argv = sys.argv[1:]; "
        f"sys.path.insert(0, {str(BENCHMARK.parent)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(BENCHMARK), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow("it trains the models of a whole benchmark in another process")
def test_every_line_of_the_benchmark_on_a_cpu(tmp_path: Path) -> None:
    done = benchmark("--device", "cpu", "--quick", "--out", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found["sync"].values()) == {"does not wait"}
    for row in found["step"]:
        for side, allowed in (("ours", 1e-5), ("ours, bf16", 0.2), ("PyTorch, TF32", 1e-6)):
            assert row[side]["gradients"] <= allowed
    assert all(part["difference"] < 1e-4 for part in found["data"].values() if isinstance(part, dict))
    for row in found["blstm"]:
        assert all(way["difference"] < 1e-5 for name, way in row.items() if name != "case")
    assert [len(row["ua"]) for row in found["ua"]] == [2, 2, 2]
    assert [len(row["each"]) for row in found["parallel"]] == [2]
    assert all(each["steps"] > 0 for row in found["parallel"] for each in row["each"])


@pytest.mark.slow("it imports torch in another process")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_without_a_gpu_is_a_line_and_2() -> None:
    done = benchmark()
    assert done.returncode == 2
    assert done.stderr.startswith("no CUDA device here")
    assert len(done.stderr.splitlines()) == 1
