"""Trials that are interrupted inside an epoch: by Ctrl-C, by SIGTERM to their worker, by a node that is drained."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from sersearch.run.run import open_run, start_run
from sersearch.search.worker import open_data
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.training.system import run_trial
from tests.search.patient_system import STEPS_PER_EPOCH
from tests.search.test_search import attempts, command, sersearch

pytestmark = pytest.mark.slow("each search starts the real Ray, is interrupted and goes on")

STUDY = """
name = "patient"
systems = ["patient_system.py"]
spaces = [{ name = "p", model = "patient", rate = [0.1, 0.2] }]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study whose epochs take minutes as long as the file `hold` is there."""
    folder = tmp_path_factory.mktemp("patient")
    shutil.copy(Path(__file__).with_name("patient_system.py"), folder)
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tiny_store: Store) -> dict[str, str]:
    """Hashes of what training computes, by key, if nothing happens; without Ray."""
    run = start_run(folder / "undisturbed", load_study(folder / "study.toml"), tiny_store.path)
    for trial in run.agenda().left:
        run_trial(trial, open_data(run, trial), attempt=run.ledger.begin(trial))
    assert set(steps(folder).values()) == {1}
    return digests(run.path)


@pytest.fixture
def run(folder: Path, undisturbed: dict[str, str], tmp_path: Path) -> Path:
    """The run of a search that is held in its first epoch."""
    (folder / "steps.txt").unlink()
    (folder / "hold").touch()
    return tmp_path / "run"


@pytest.fixture
def start(folder: Path, run: Path, tiny_store: Store) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> subprocess.Popen[str]:
        words = ("search", folder / "study.toml", "--store", tiny_store.path, "--run", run, *more)
        started.append(subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield begin
    for search in started:
        if search.poll() is None:
            search.kill()
            search.communicate()


def lines(folder: Path) -> list[list[str]]:
    """What each step of training has written: key, epoch, step, node."""
    file = folder / "steps.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def steps(folder: Path) -> Counter[tuple[str, ...]]:
    """How often each step of each trial was trained."""
    return Counter(tuple(line[:3]) for line in lines(folder))


def digests(run: Path) -> dict[str, str]:
    return {key: result.figures_digest for key, result in open_run(run).ledger.results().items()}


def wait(search: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert search.poll() is None, search.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trained(folder: Path, steps_each: int = 5, trials: int = 1) -> bool:
    """Whether so many trials have trained so many steps."""
    return sum(count >= steps_each for count in Counter(line[0] for line in lines(folder)).values()) >= trials


def assert_no_step_was_lost(folder: Path, run: Path, undisturbed: dict[str, str]) -> None:
    found = steps(folder)
    assert set(found.values()) == {1}, "a step was trained twice"
    assert len(found) == 2 * 2 * STEPS_PER_EPOCH
    assert digests(run) == undisturbed
    ledger = open_run(run).ledger
    assert all(ledger.failures(key) == [] for key in undisturbed)
    verified = sersearch("status", run, "--verify")
    assert verified.returncode == 0, verified.stdout


def test_ctrl_c_does_not_wait_for_the_end_of_an_epoch(
    start: Callable[..., subprocess.Popen[str]], folder: Path, run: Path, undisturbed: dict[str, str]
) -> None:
    search = start()
    wait(search, lambda: trained(folder))
    search.send_signal(signal.SIGINT)
    said, _ = search.communicate(timeout=400)
    assert search.returncode == 1
    assert "stopping: running trials write checkpoints; press Ctrl-C again to stop immediately" in said
    assert f"stopped by SIGINT; resume with `sersearch resume {run}`" in said
    assert max(int(line[2]) for line in lines(folder)) < STEPS_PER_EPOCH, "the epoch has not ended"
    (folder / "hold").unlink()
    resumed = sersearch("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_no_step_was_lost(folder, run, undisturbed)


def test_sigterm_to_a_worker(
    start: Callable[..., subprocess.Popen[str]], folder: Path, run: Path, undisturbed: dict[str, str]
) -> None:
    search = start()
    wait(search, lambda: trained(folder))
    family = psutil.Process(search.pid).children(recursive=True)
    workers = [process for process in family if " ".join(process.cmdline()).startswith("ray::ResourceTrainable")]
    assert workers
    for worker in workers:
        worker.terminate()
    wait(search, lambda: sum(attempts(run).values()) > len(workers))
    (folder / "hold").unlink()
    said, _ = search.communicate(timeout=400)
    assert search.returncode == 0, said
    assert "its worker received SIGTERM; it continues in 0 s" in said
    assert "Traceback" not in said
    assert_no_step_was_lost(folder, run, undisturbed)
    assert not any(worker.is_running() for worker in workers), "a worker that was terminated takes no other trial"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster whose head trains nothing."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_a_drained_node_gives_its_trial_to_another(
    cluster: Cluster,
    start: Callable[..., subprocess.Popen[str]],
    folder: Path,
    run: Path,
    undisturbed: dict[str, str],
) -> None:
    nodes = {cluster.add_node(num_cpus=1).node_id for _ in range(2)}
    search = start("--address", cluster.address)
    wait(search, lambda: trained(folder, trials=2))
    drained = lines(folder)[0][3]
    accepted, reason = ray._raylet.GcsClient(address=cluster.address).drain_node(
        drained,
        autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "the spot market wants it back",
        int(1000 * (time.time() + 600)),
    )
    assert accepted, reason
    said = ""
    assert search.stdout
    while "its node is being drained; it continues in 0 s" not in said:
        line = search.stdout.readline()
        assert line, said
        said += line
    (folder / "hold").unlink()
    said += search.communicate(timeout=400)[0]
    assert search.returncode == 0, said
    assert "is being drained: its trials stop at checkpoints, to go on elsewhere; now 1 node, 1 slot" in said
    assert_no_step_was_lost(folder, run, undisturbed)
    (other,) = nodes - {drained}
    assert lines(folder)[-1][3] == other
