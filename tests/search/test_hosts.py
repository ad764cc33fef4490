"""Searches on clusters of hosts made of namespaces on this machine; nodes, links and heads are lost for real."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import sersearch as package
from sersearch.run.ledger import Ledger
from sersearch.run.run import open_run
from sersearch.store.reader import Store
from tests.hosts import PORT, Host, hosts, wait_until
from tests.search.test_search import leaderboard, results, sersearch

pytestmark = pytest.mark.slow("each test makes hosts, each with a Ray of its own")

STUDY = """
systems = ["waiting_system.py"]
spaces = [{ name = "w", model = "waiting", rate = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5] }]
resources = { checkpoint_every_s = 0 }
"""

TRIALS = 6


@dataclass
class World:
    """A folder that all hosts share.

    Attributes:
        path: the folder; it has a store, a study, and a folder for runs.
    """

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "runs" / "run"

    @property
    def ledger(self) -> Ledger:
        return open_run(self.run).ledger

    def hold(self, *names: str) -> None:
        """Let trials wait in their second epoch: all, or those on some hosts."""
        for name in names or ("",):
            (self.path / "-".join(filter(None, ("hold", name)))).touch()

    def release(self, name: str = "") -> None:
        """Let them go on."""
        (self.path / "-".join(filter(None, ("hold", name)))).unlink()

    @property
    def waiting(self) -> int:
        """How many trials have finished an epoch."""
        return len({path.parents[1] for path in self.run.glob("trials/*/*/epochs.jsonl")})

    def alone(self) -> bytes:
        """The leaderboard of the same study on one machine."""
        run = self.path / "alone"
        done = sersearch("search", self.path / "study.toml", "--store", self.path / "store", "--run", run)
        assert done.returncode == 0, done.stderr
        return leaderboard(run)


@pytest.fixture
def world(tiny_store: Store, tmp_path: Path) -> World:
    path = tmp_path / "world"
    shutil.copytree(tiny_store.path, path / "store")
    shutil.copy(Path(__file__).with_name("waiting_system.py"), path)
    (path / "runs").mkdir()
    (path / "study.toml").write_text(STUDY)
    return World(path)


@pytest.fixture
def three(world: World) -> Iterator[list[Host]]:
    """Three hosts; the first one is the head of a Ray cluster, and each trains one trial at a time."""
    with hosts(3, world.path) as three:
        head, *others = three
        head.start_ray()
        for host in others:
            host.start_ray(head=head.address)
        yield three


@dataclass
class Driver:
    """A command of sersearch on a host."""

    process: subprocess.Popen[str]
    seen_file: Path

    @property
    def seen(self) -> str:
        """What it has said on standard error so far."""
        return self.seen_file.read_text() if self.seen_file.exists() else ""

    def wait_for(self, words: str | Callable[[], bool]) -> None:
        """Wait until it says something, or until something is so, while it runs."""
        happens = words if callable(words) else lambda: words in self.seen
        wait_until(happens, self.process)

    def end(self) -> int:
        return self.process.wait(900)


def drive(host: Host, world: World, head: Host, *words: object) -> Driver:
    """Start a search, or another command, on a host."""
    words = words or ("search", world.path / "study.toml", "--store", world.path / "store", "--run", world.run)
    seen = world.path / f"seen-{len(list(world.path.glob('seen-*')))}.txt"
    command = [*host.sersearch(*words), "--address", f"{head.address}:{PORT}"]
    return Driver(host.start("sh", "-c", 'exec "$@" 2>"$0" >/dev/null', seen, *command), seen)


def test_a_node_is_killed_and_the_leaderboard_is_the_same(three: list[Host], world: World) -> None:
    head, _, lost = three
    world.hold()
    driver = drive(head, world, head)
    driver.wait_for(lambda: world.waiting >= 3)
    lost.kill("raylet")
    driver.wait_for(f"node {lost.address} lost, 1 trial put back, now 2 nodes, 2 slots\n")
    world.release()
    assert driver.end() == 0, driver.seen
    assert "raylet" not in driver.seen, "Ray's own words are in the run's log"
    assert lost.address in (world.run / "ray.log").read_text()
    committed = world.ledger.results()
    assert {result.host for result in committed.values()} == {"host1", "host2"}
    assert sorted(world.ledger.attempts(key) for key in committed) == [1] * (TRIALS - 1) + [2]
    assert leaderboard(world.run) == world.alone()


def test_nodes_that_cannot_train_are_left_out_by_name(three: list[Host], world: World) -> None:
    """The second host has no package, the third may only read."""
    good, without, reading = three
    without.shell("; ".join(f"mount -t tmpfs none '{folder}'" for folder in _packages()))
    reading.shell(f"mount --bind '{world.path}' '{world.path}'; mount -o remount,bind,ro '{world.path}'")
    where = ["--address", f"{good.address}:{PORT}", "--run", world.run, "--store", world.path / "store"]
    check = good.run(*good.sersearch("cluster", "check", *where))
    assert check.returncode == 1, check.stderr
    assert not world.run.exists(), "a check leaves nothing"

    driver = drive(good, world, good)
    assert driver.end() == 0, driver.seen
    for text in (check.stdout, driver.seen):
        assert _row(text, good.address).endswith("| good |")
        assert "sersearch can't be imported there (ModuleNotFoundError" in _row(text, without.address)
        assert "Read-only file system" in _row(text, reading.address)
    committed = world.ledger.results()
    assert {result.host for result in committed.values()} == {"host1"}
    assert {world.ledger.attempts(key) for key in committed} == {1}


def _row(text: str, address: str) -> str:
    """The row of a table about a node."""
    (row,) = [line for line in text.splitlines() if line.startswith("| ") and address in line]
    return row


def _packages() -> set[Path]:
    """Every folder in which Python finds this package: the one that is used, and those behind it."""
    places = {Path(place) / "sersearch" for place in sys.path} | set(map(Path, package.__path__))
    return {place.resolve() for place in places if place.is_dir()}


def test_a_node_that_goes_wrong_is_set_aside_and_comes_back(three: list[Host], world: World) -> None:
    """After the check, the runs of one host become read-only for a while, and no trial fails for it."""
    head, _, wrong = three
    runs = world.run.parent
    world.hold("host1", "host2", "host3")
    driver = drive(head, world, head)
    driver.wait_for(lambda: world.waiting >= 3)
    wrong.shell(f"mount --bind '{runs}' '{runs}'; mount -o remount,bind,ro '{runs}'")
    world.release("host3")
    driver.wait_for(f"node {wrong.address} is set aside for 10 s (Read-only file system")
    wrong.shell(f"umount -l '{runs}'")
    driver.wait_for(f"node {wrong.address} is used, now 3 nodes, 3 slots\n")
    driver.wait_for(lambda: len(results(world.run)) == TRIALS - 2)
    world.release("host1")
    world.release("host2")
    assert driver.end() == 0, driver.seen
    assert sorted(result.host for result in world.ledger.results().values()) == ["host1", "host2"] + ["host3"] * 4
    assert not list(world.run.glob("trials/*/*/failure.json"))


def test_a_link_is_cut_and_healed(three: list[Host], world: World) -> None:
    """The node's Ray ends itself when the link is back; when it is started again, the node is used."""
    head, _, cut = three
    world.hold()
    driver = drive(head, world, head)
    driver.wait_for(lambda: world.waiting >= 3)
    cut.cut()
    driver.wait_for(f"node {cut.address} lost, 1 trial put back, now 2 nodes, 2 slots\n")
    cut.heal()
    cut.stop_ray()
    cut.start_ray(head=head.address)
    driver.wait_for(f"node {cut.address} is used, now 3 nodes, 3 slots\n")
    world.release()
    assert driver.end() == 0, driver.seen
    assert leaderboard(world.run) == world.alone()


def test_the_head_is_lost_and_the_run_resumes_elsewhere(three: list[Host], world: World) -> None:
    first, second, third = three
    world.hold("host3")
    driver = drive(second, world, first)
    driver.wait_for(lambda: len(results(world.run)) >= 2)
    first.kill("gcs_server")
    assert driver.end() == 1
    *_, line = driver.seen.splitlines()
    resume = f"resume with `sersearch resume {world.run} --address {first.address}:{PORT}`"
    assert line == f"sersearch: the cluster's head at {first.address}:{PORT} is lost; finished work is kept: {resume}"

    before = results(world.run)
    for host in three:
        host.stop_ray()
    second.start_ray()
    third.start_ray(head=second.address)
    drive(second, world, second, "resume", world.run).wait_for("1 running")
    # Whether a driver on another host is alive can't be seen, so it is left alone, dead or not.
    resuming = ["resume", world.run, "--address", f"{second.address}:{PORT}"]
    refused = third.run(*third.sersearch(*resuming))
    assert refused.returncode == 2
    assert "another search works on this run (host host2, process" in refused.stderr
    second.kill_driver(str(world.run))
    assert third.run(*third.sersearch(*resuming)).returncode == 2
    world.release("host3")
    resumed = third.run(*third.sersearch(*resuming, "--take-over"))
    assert resumed.returncode == 0, resumed.stderr
    assert before.items() <= results(world.run).items()
    assert leaderboard(world.run) == world.alone()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so Ray's grants are no fake")
def test_gpus_that_ray_grants_and_torch_does_not_find(three: list[Host], world: World) -> None:
    """No other node has one, so no node is left."""
    head, _, fake = three
    fake.stop_ray()
    fake.start_ray(gpus=1, head=head.address)
    (world.path / "study.toml").write_text(STUDY.replace("checkpoint_every_s = 0", "gpus = 0.25"))
    driver = drive(head, world, head)
    assert driver.end() == 2, driver.seen
    *_, line = driver.seen.splitlines()
    assert f"no node is left that can train a trial (node {fake.address}: torch finds no CUDA device there)" in line
    assert not (world.run / "trials").exists()


def test_a_driver_without_the_clusters_token(world: World) -> None:
    with hosts(2, world.path) as (head, other):
        head.shell("mkdir -p ~/.ray; umask 077; printf 0123456789abcdef0123456789abcdef > ~/.ray/auth_token")
        head.start_ray(mode="token")
        driver = drive(other, world, head)
        assert driver.end() == 2, driver.seen
    *_, line = driver.seen.splitlines()
    assert line.startswith(f"sersearch: --address {head.address}:{PORT} was given, but ")
    assert "RAY_AUTH_MODE=token" in line
