"""Searches on clusters whose Ray grants GPUs that are none: who trains where, beside whom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from sersearch.errors import InputError
from sersearch.run.ledger import Result
from sersearch.run.run import open_run, start_run
from sersearch.search.check import ready_nodes
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from tests.hosts import wait_until
from tests.search.test_search import leaderboard, sersearch

pytestmark = [
    pytest.mark.slow("each search starts a Ray cluster"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so Ray's grants are no fake"),
]

STUDY = """
systems = ["sharing_system.py"]
spaces = [
    { name = "g", model = "on-gpu", gb = [1, 30], rate = [0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3] },
    { name = "c", model = "on-cpu", rate = [0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7] },
]
resources = { gpus = 0.5, checkpoint_every_s = 0 }
"""

TRIALS = {"on-gpu": 16, "on-cpu": 12}


@pytest.fixture
def folder(tiny_store: Store, tmp_path: Path) -> Path:
    """A study beside its systems."""
    shutil.copy(Path(__file__).with_name("sharing_system.py"), tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose head trains nothing, and whose nodes may be given GPUs."""
    paths = [Path(__file__).with_name("fake_gpus"), Path(__file__).parents[2]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def add_node(cluster: Cluster, cpus: int, gb: float | None = None, taken_gb: float = 0) -> str:
    """Add a node with a GPU of so much memory, of which a trial takes so much; its id."""
    if gb is None:
        node = cluster.add_node(num_cpus=cpus)
    else:
        env = {"FAKE_GPU_GB": str(gb), "FAKE_GPU_TAKEN_GB": str(taken_gb)}
        node = cluster.add_node(num_cpus=cpus, num_gpus=1, env_vars=env)
    return str(node.node_id)


@contextmanager
def search(folder: Path, store: Store, cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """Begin a search; what it says is in `said.txt`."""
    words = ["search", folder / "study.toml", "--store", store.path, "--run", folder / "run"]
    command = [sys.executable, "-m", "sersearch", *map(str, words), "--address", cluster.address]
    with (folder / "said.txt").open("w") as said, subprocess.Popen(command, stderr=said, text=True) as process:
        yield process


def steps(folder: Path) -> list[tuple[str, str, str, str]]:
    """Model, key, node and device of each step."""
    path = folder / "steps.txt"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []  # type: ignore[misc]


def done(folder: Path, model: str) -> int:
    """How many trials of a model have a result."""
    run = folder / "run"
    if not (run / "run.json").exists():
        return 0
    return sum(result.trial.configuration.model == model for result in open_run(run).ledger.results().values())


@pytest.mark.parametrize("held", ["on-gpu", "on-cpu"])
def test_neither_kind_waits_for_the_other(held: str, cluster: Cluster, folder: Path, tiny_store: Store) -> None:
    """While all trials of one kind are held, those of the other are all trained, on the cores that are theirs."""
    large, small = add_node(cluster, 2, gb=80), add_node(cluster, 2, gb=24)
    (other,) = TRIALS.keys() - {held}
    (folder / f"hold-{held}").touch()
    with search(folder, tiny_store, cluster) as process:
        wait_until(lambda: done(folder, other) == TRIALS[other], process)
        wait_until(lambda: held in {model for model, *_ in steps(folder)}, process)
        assert done(folder, held) == 0
        (folder / f"hold-{held}").unlink()
        assert process.wait(600) == 0, (folder / "said.txt").read_text()
    results = open_run(folder / "run").ledger.results()
    assert len(results) == sum(TRIALS.values())
    assert {(model, device) for model, _, _, device in steps(folder)} == {("on-gpu", "cuda"), ("on-cpu", "cpu")}
    assert {node for _, key, node, _ in steps(folder) if is_large(results[key])} == {large}
    assert {node for *_, node, _ in steps(folder)} == {large, small}
    assert leaderboard(folder / "run") == alone(folder, tiny_store)


def is_large(result: Result) -> bool:
    """Whether a trial takes 30 GB of a GPU."""
    return dict(result.trial.configuration).get("gb") == 30


def alone(folder: Path, store: Store) -> bytes:
    """The leaderboard of the same study without GPUs."""
    words = ["search", folder / "study.toml", "--store", store.path, "--run", folder / "alone"]
    trained = sersearch(*words, "--set", "resources.gpus=0")
    assert trained.returncode == 0, trained.stderr
    return leaderboard(folder / "alone")


def test_gpus_that_do_not_work_and_trials_too_large_for_any(cluster: Cluster, folder: Path, tiny_store: Store) -> None:
    """One node has a GPU of 24 GB, and on the other one torch finds none; it trains what takes no GPU."""
    good, without = add_node(cluster, 1, gb=24, taken_gb=20), add_node(cluster, 1, gb=0)
    with search(folder, tiny_store, cluster) as process:
        assert process.wait(600) == 0, (folder / "said.txt").read_text()
    said = (folder / "said.txt").read_text()
    assert "| 1 x Fake, 24 GB | good |" in said
    assert "| good without GPUs: torch finds no CUDA device there |" in said
    assert said.count("GB of a GPU, and the largest here has 24.0 GB: such trials are tried there") == 1
    assert {node for model, _, node, _ in steps(folder) if model == "on-gpu"} == {good}
    assert without in {node for model, _, node, _ in steps(folder) if model == "on-cpu"}
    results = open_run(folder / "run").ledger.results().values()
    assert {(result.trial.configuration.model, result.gpu_bytes) for result in results} == {
        ("on-gpu", 20 * 10**9),
        ("on-cpu", 0),
    }


def test_a_machine_alone_knows_the_memory_of_its_gpus(cluster: Cluster, folder: Path, tiny_store: Store) -> None:
    """Without `--address` nothing else is checked; GPUs that torch does not find end the search before it begins."""
    run = start_run(folder / "run", load_study(folder / "study.toml"), tiny_store.path)
    id = add_node(cluster, 2, gb=24)
    ray.init(address=cluster.address)
    try:
        with closing(ready_nodes(run, print, is_cluster=False)) as nodes:
            assert nodes.gpu_memories == {id: 24 * 10**9}
            assert nodes.counted == "1 node, 2 slots, 2 of them on GPUs"
        cluster.remove_node(next(node for node in cluster.worker_nodes if node.node_id == id))
        add_node(cluster, 2, gb=0)
        with pytest.raises(InputError, match=r"no node is left that can train a trial on a GPU .*finds no CUDA device"):
            ready_nodes(run, print, is_cluster=False)
    finally:
        ray.shutdown()
