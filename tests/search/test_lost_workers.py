"""Workers that are killed many times over, nodes that go, and what no node has."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from sersearch.run.run import open_run
from sersearch.store.reader import Store
from tests.search.test_search import sersearch

pytestmark = pytest.mark.slow("each search starts the real Ray, and its workers are killed")

# Pauses of a real search add up to two minutes.
SHORT_PAUSES = (
    "from sersearch.search import losses, tune; losses.PAUSES_S = (0.0, 0.1, 0.1); tune.NODE_AWAITED_S = 4.0;"
)
PROGRAM = f"{SHORT_PAUSES} from sersearch.__main__ import main; main()"

SLOW = """
spaces = [{ name = "fst", model = "FST-CLDNN", w1 = [3, 4, 5], w2 = 2 }]
training = { epochs = 100, patience = 100, maps = 4, cells = 6, dense = [8] }
resources = { checkpoint_every_s = 0 }
"""

DEADLY = """
systems = ["deadly_system.py"]
spaces = [{ name = "d", model = "deadly", survives = [0, 1, 9] }]
resources = { checkpoint_every_s = 0 }
"""


def sersearch_with_short_pauses(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def test_lost_workers_are_no_failures_however_many(tiny_store: Store, tmp_path: Path) -> None:
    """Of three trials one dies in each second epoch, one before its first; the third lives."""
    shutil.copy(Path(__file__).with_name("deadly_system.py"), tmp_path)
    (tmp_path / "plague").touch()
    (tmp_path / "study.toml").write_text(DEADLY)
    run = tmp_path / "run"
    done = sersearch_with_short_pauses("search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", run)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "", "Ray's own words about lost workers are in ray.log"
    ledger = open_run(run).ledger
    results = ledger.results()
    (unfinished,) = set(ledger.keys()) - set(results)
    attempts = {dict(result.trial.configuration)["survives"]: ledger.attempts(key) for key, result in results.items()}
    assert attempts == {1: 6, 9: 1}
    assert ledger.attempts(unfinished) == 4
    assert ledger.failures(unfinished) == []
    (line,) = [line for line in done.stderr.splitlines() if "resume with" in line]
    reason = "lost 4 workers in a row without a checkpoint between them (its worker process died)"
    assert line == f"{run}: trial {unfinished} {reason}; resume with `sersearch resume {run}`"
    assert done.stderr.count("its worker process died; it continues in 0 s") == 1 + 5

    (tmp_path / "plague").unlink()
    resumed = sersearch("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert ledger.attempts(unfinished) == 5


@pytest.mark.parametrize(("resources", "lack"), [("cpus = 4096", "4096 CPUs and 0 GPUs"), ("gpus = 99", "99 GPUs")])
def test_what_this_machine_can_never_train(resources: str, lack: str, tiny_store: Store, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(f'name = "big"\nspaces = [{{ name = "l", model = "LDNN" }}]\n[resources]\n{resources}')
    done = sersearch("search", study, "--store", tiny_store.path, "--run", tmp_path / "run")
    assert done.returncode == 2
    # The speakers of each part are said before.
    *_, line = done.stderr.splitlines()
    assert line.startswith("sersearch: study big: a trial takes ")
    assert lack in line
    assert line.endswith("set cpus and gpus in [resources] to less, or add a node")
    assert not (tmp_path / "run" / "trials").exists()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose head trains nothing."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_a_search_whose_last_node_is_lost_waits_and_ends(cluster: Cluster, tiny_store: Store, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    (tmp_path / "study.toml").write_text(SLOW)
    words = ["search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", tmp_path / "run"]
    command = [sys.executable, "-c", PROGRAM, *map(str, words), "--address", cluster.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as search:
        while not list(tmp_path.glob("run/trials/*/*/epochs.jsonl")):
            assert search.poll() is None
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        said = search.communicate(timeout=200)[1]
    assert search.returncode == 1
    lack = "a trial takes 1 CPU and 0 GPUs, but the only machine has 0 CPUs and 0 GPUs"
    assert f"{lack}; waiting 4 s for such a node" in said
    assert f"{lack}, for 4 s; resume with `sersearch resume {tmp_path / 'run'}`" in said
    assert "Traceback" not in said
    ledger = open_run(tmp_path / "run").ledger
    assert [ledger.failures(key) for key in ledger.keys()] == [[]]  # noqa: SIM118
