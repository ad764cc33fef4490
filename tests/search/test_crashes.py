"""Whatever dies, and whenever: the same result, and nothing finished is trained again."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sersearch.run.ledger import Epoch, Ledger
from sersearch.run.storage import Folder
from sersearch.store.reader import Store
from sersearch.training.dataset import Dataset, open_dataset
from sersearch.training.system import run_trial
from tests.disks import small_disk_at
from tests.search import crash_points
from tests.search.test_search import attempts, command, leaderboard, results, sersearch

pytestmark = pytest.mark.slow("each search starts the real Ray, is killed at some point, and is resumed")

SLOW = """
name = "slow"
spaces = [{ name = "fst", model = "FST-CLDNN", w1 = [3, 4, 5], w2 = 2 }]
[training]
epochs = 12
patience = 12
maps = 4
cells = 6
dense = [8]
[resources]
checkpoint_every_s = 0
"""


@pytest.fixture(scope="module")
def data(tiny_store: Store) -> Dataset:
    return open_dataset(tiny_store, crash_points.PARTITION)


@pytest.mark.slow("one process trains and dies for each of a trial's system calls, and each trial is then resumed")
@pytest.mark.parametrize("loss", ["process", "power"])
def test_a_crash_between_any_two_system_calls(tiny_store: Store, data: Dataset, tmp_path: Path, loss: str) -> None:
    trial = crash_points.TRIAL
    whole = Ledger(Folder(tmp_path / "whole"))
    run_trial(trial, data, attempt=whole.begin(trial))
    expected = whole.result(trial.key)
    assert expected
    out = tmp_path / "crashed"
    out.mkdir()
    words = [sys.executable, "-m", "tests.search.crash_points", str(tiny_store.path), str(out), loss]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    points = int(done.stdout)
    assert points > 20
    for point in range(points):
        ledger = Ledger(Folder(out / str(point)))
        kept = ledger.result(trial.key)
        if kept is None:
            seen: list[int] = []

            def note(epoch: Epoch, seen: list[int] = seen) -> None:
                seen.append(epoch.epoch)

            attempt = ledger.begin(trial)
            done_before = attempt.checkpoint() is not None
            run_trial(trial, data, note, attempt)
            assert not (done_before and 1 in seen), "an epoch older than the checkpoint was trained again"
        found = ledger.result(trial.key)
        assert found
        assert found.confusion == expected.confusion
        assert [e.validation_loss for e in found.epochs] == [e.validation_loss for e in expected.epochs]
        assert ledger.weights(found) == whole.weights(expected)


@pytest.fixture(scope="module")
def plain(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "slow.toml").write_text(SLOW)
    done = sersearch("search", folder / "slow.toml", "--store", tiny_store.path, "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


class Search:
    """A search in a process of its own, and the processes that its Ray has."""

    def __init__(self, study: Path, store: Path, run: Path) -> None:
        self.run, self.store = run, store
        words = command("search", study, "--store", store, "--run", run)
        self.driver = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def named(self, name: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.driver.pid).children(recursive=True):
            try:
                if name in process.name() or any(word.startswith(name) for word in process.cmdline()[:1]):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        deadline = time.monotonic() + 60
        while not (found := self.named("ray::ResourceTrainable")):
            assert self.driver.poll() is None, self.driver.communicate()[0]
            assert time.monotonic() < deadline
        return found

    def wait_for_epochs(self, epochs: int) -> None:
        deadline = time.monotonic() + 120
        while sum(path.read_text().count("\n") for path in self.run.glob("trials/*/*/epochs.jsonl")) < epochs:
            assert self.driver.poll() is None, self.driver.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self, timeout: float = 150) -> tuple[int, str]:
        said, _ = self.driver.communicate(timeout=timeout)
        return self.driver.returncode, said


@pytest.fixture
def search(tiny_store: Store, tmp_path: Path) -> Iterator[Callable[[], Search]]:
    (tmp_path / "slow.toml").write_text(SLOW)
    started: list[Search] = []

    def start() -> Search:
        started.append(Search(tmp_path / "slow.toml", tiny_store.path, tmp_path / "run"))
        return started[-1]

    yield start
    for each in started:
        if each.driver.poll() is None:
            os.killpg(each.driver.pid, signal.SIGKILL)
            each.driver.communicate()


def finish(run: Path, plain: Path) -> None:
    """Resume; the leaderboard is that of the uninterrupted run, and what was done stayed as it was."""
    before = results(run)
    resumed = sersearch("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert before.items() <= results(run).items()
    assert leaderboard(run) == leaderboard(plain)
    verified = sersearch("status", run, "--verify")
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("how_many", ["one", "all"])
def test_killed_workers_are_replaced(search: Callable[[], Search], plain: Path, how_many: str) -> None:
    running = search()
    running.wait_for_epochs(4)
    workers = running.workers()
    for worker in workers[: 1 if how_many == "one" else None]:
        worker.kill()
    code, said = running.end()
    assert code == 0, said
    finish(running.run, plain)


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_dead_ray_is_noticed_and_said(search: Callable[[], Search], plain: Path, victim: str) -> None:
    running = search()
    running.wait_for_epochs(4)
    family = psutil.Process(running.driver.pid).children(recursive=True)
    (process,) = running.named(victim)
    process.kill()
    code, said = running.end(timeout=30)
    assert code == 1
    assert f"{victim} on this machine has died" in said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [p for p in alive if "ray::" in " ".join(p.cmdline())], "a worker goes on unseen"
    finish(running.run, plain)


def test_ctrl_c_stops_at_checkpoints(search: Callable[[], Search], plain: Path) -> None:
    running = search()
    running.wait_for_epochs(3)
    running.driver.send_signal(signal.SIGINT)
    code, said = running.end()
    assert code == 1
    assert "stopped by SIGINT" in said
    assert f"resume {running.run}" in said
    assert len(results(running.run)) < 3
    assert all(number == 1 for number in attempts(running.run).values())
    finish(running.run, plain)


def gone(family: list[psutil.Process]) -> bool:
    """Whether no process of a search is left."""
    return not psutil.wait_procs(family, timeout=10)[1]


def test_a_second_search_is_refused_and_ctrl_c_ends_the_first_where_nothing_runs(search: Callable[[], Search]) -> None:
    running = search()
    deadline = time.monotonic() + 60
    while not (running.run / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    record = (running.run / "run.json").read_bytes()
    study = running.run.parent / "wider.toml"
    study.write_text(SLOW.replace("[3, 4, 5]", "[3, 4, 5, 6]"))
    for words in (["resume", running.run], ["search", study, "--store", running.store, "--run", running.run]):
        refused = sersearch(*words)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert f"another search works on this run (host {platform.node()}, process {running.driver.pid}, since" in line
    assert (running.run / "run.json").read_bytes() == record

    family = psutil.Process(running.driver.pid).children(recursive=True)
    running.driver.send_signal(signal.SIGINT)
    code, said = running.end(timeout=20)
    if "running trials" not in said:
        assert code in (1, 130)
        # The speakers of each part are said at the start.
        assert len([line for line in said.splitlines() if not re.match("(train|validation|test): ", line)]) == 1
    assert "Traceback" not in said
    assert gone(family)
    assert not list((running.run / "sessions").iterdir())


def test_the_second_ctrl_c_does_not_wait(search: Callable[[], Search]) -> None:
    running = search()
    running.wait_for_epochs(1)
    family = psutil.Process(running.driver.pid).children(recursive=True)
    assert running.driver.stdout
    running.driver.send_signal(signal.SIGINT)
    while "press Ctrl-C again" not in running.driver.stdout.readline():
        assert running.driver.poll() is None
    running.driver.send_signal(signal.SIGINT)
    code, said = running.end(timeout=20)
    assert "Traceback" not in said
    assert gone(family)
    assert not list((running.run / "sessions").iterdir())
    # The checkpoints may have been written before.
    assert (code, said.splitlines()[-1]) in [
        (130, f"{running.run}: stopped immediately by SIGINT; resume with `sersearch resume {running.run}`"),
        (130, "sersearch: stopped by Ctrl-C; finished work is kept"),
        (1, f"{running.run}: stopped by SIGINT; resume with `sersearch resume {running.run}`"),
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", "200k") as folder:
        yield folder


def test_a_full_disk_ends_the_search_and_loses_nothing(small_disk: Path, tiny_store: Store, plain: Path) -> None:
    run = small_disk / "run"
    study = small_disk.parent / "slow.toml"
    study.write_text(SLOW)
    (small_disk / "ballast").write_bytes(bytes(100_000))
    code, said = Search(study, tiny_store.path, run).end()
    assert code == 1
    assert "No space left on device" in said
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    finish(run, plain)


def test_a_read_only_run_folder(small_disk: Path, tiny_store: Store) -> None:
    study = small_disk.parent / "slow.toml"
    study.write_text(SLOW)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, said = Search(study, tiny_store.path, small_disk / "run").end()
    assert code == 1
    assert "Read-only file system" in said
    assert "Traceback" not in said


def test_a_clock_that_jumps(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = crash_points.TRIAL
    before = run_trial(trial, data, attempt=Ledger(Folder(tmp_path / "a")).begin(trial))
    jumps = iter(range(10**9, -(10**9), -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    after = run_trial(trial, data, attempt=Ledger(Folder(tmp_path / "b")).begin(trial))
    assert after.confusion == before.confusion
    assert [e.train_loss for e in after.epochs] == [e.train_loss for e in before.epochs]
