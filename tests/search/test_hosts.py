"""Searches on clusters of hosts made of namespaces on this machine; nodes, links and heads are lost for real."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sersearch as package
from sersearch.run.run import open_run
from sersearch.store.reader import Store
from tests.hosts import PORT, Host, hosts, wait_until
from tests.search.test_search import leaderboard, results, sersearch

pytestmark = pytest.mark.slow("each test makes three hosts, each with a Ray of its own")

STUDY = """
spaces = [{ name = "l", model = "LDNN", cells = [4, 5, 6, 7] }, { name = "t", model = "T-CLDNN", w1 = [3, 6], w2 = 2 }]
training = { epochs = EPOCHS, patience = 1000, maps = 4, dense = [8] }
"""

LONG = 400
"""So many epochs that a search is still at it when something happens to it."""


@pytest.fixture
def world(tiny_store: Store, tmp_path: Path) -> Path:
    """A folder that all hosts share, with a store and studies; runs are made in its folder `runs`."""
    world = tmp_path / "world"
    shutil.copytree(tiny_store.path, world / "store")
    (world / "runs").mkdir()
    (world / "short.toml").write_text(STUDY.replace("EPOCHS", "3"))
    checkpoints = "resources = { checkpoint_every_s = 0 }\n"
    (world / "long.toml").write_text(STUDY.replace("EPOCHS", f"{LONG}") + checkpoints)
    (world / "gpus.toml").write_text(STUDY.replace("EPOCHS", "3") + "resources = { gpus = 0.25 }\n")
    return world


@pytest.fixture
def three(world: Path) -> Iterator[list[Host]]:
    """Three hosts; the first one is the head of a Ray cluster, and each may train one trial at a time."""
    with hosts(3, world) as three:
        head, *others = three
        head.start_ray()
        for host in others:
            host.start_ray(head=head.address)
        yield three


def search(world: Path, head: Host, study: str = "short", run: str = "run") -> list[object]:
    """The words of a search."""
    words = ["search", world / f"{study}.toml", "--store", world / "store", "--run", world / "runs" / run]
    return head.sersearch(*words, "--address", f"{head.address}:{PORT}")


def alone(world: Path, study: str) -> bytes:
    """The leaderboard of the same study on one machine."""
    run = world / "alone"
    done = sersearch("search", world / f"{study}.toml", "--store", world / "store", "--run", run)
    assert done.returncode == 0, done.stderr
    return leaderboard(run)


def begun(run: Path) -> int:
    """How many trials have finished an epoch."""
    return len({path.parents[1] for path in run.glob("trials/*/*/epochs.jsonl") if path.stat().st_size})


def test_a_node_is_killed_and_the_leaderboard_is_the_same(three: list[Host], world: Path) -> None:
    head, _, lost = three
    run = world / "runs" / "run"
    driver = head.start(*search(world, head, "long"))
    wait_until(lambda: begun(run) >= 3, driver)
    lost.kill("raylet")
    said = driver.communicate()
    assert driver.returncode == 0, said
    (line,) = [line for line in said[1].splitlines() if " lost" in line]
    assert line == f"node {lost.address} lost, 1 trial put back, now 2 nodes, 2 slots"
    assert "raylet" not in said[0] + said[1], "Ray's own words are in the run's log"
    assert lost.address in (run / "ray.log").read_text()
    assert leaderboard(run) == alone(world, "long")
    committed = open_run(run).ledger.results()
    assert {result.host for result in committed.values()} >= {"host1", "host2"}
    attempts = Counter(open_run(run).ledger.attempts(key) for key in committed)
    assert attempts == {1: 5, 2: 1}


def test_nodes_that_cannot_train_are_left_out_by_name(three: list[Host], world: Path) -> None:
    """The second host has no package, the third may only read."""
    good, without, reading = three
    hide = "; ".join(f"mount -t tmpfs none '{folder}'" for folder in _packages())
    without.shell(hide)
    reading.shell(f"mount --bind '{world}' '{world}'; mount -o remount,bind,ro '{world}'")
    run = world / "runs" / "run"

    where = ["--address", f"{good.address}:{PORT}", "--run", run, "--store", world / "store"]
    check = good.run(*good.sersearch("cluster", "check", *where))
    assert check.returncode == 1, check.stderr
    assert not run.exists(), "a check leaves nothing"

    done = good.run(*search(world, good))
    assert done.returncode == 0, done.stderr
    for text in (check.stdout, done.stderr):
        assert row_of(text, good.address).endswith("| good |")
        assert "sersearch can't be imported there (ModuleNotFoundError" in row_of(text, without.address)
        assert "Read-only file system" in row_of(text, reading.address)
    committed = open_run(run).ledger.results()
    assert {result.host for result in committed.values()} == {"host1"}
    assert {open_run(run).ledger.attempts(key) for key in committed} == {1}


def row_of(text: str, address: str) -> str:
    """The row of a table about a node."""
    (row,) = [line for line in text.splitlines() if line.startswith("| ") and address in line]
    return row


def _packages() -> set[Path]:
    """Every folder in which Python finds this package: the one that is used, and those behind it."""
    places = {Path(place) / "sersearch" for place in sys.path} | set(map(Path, package.__path__))
    return {place.resolve() for place in places if place.is_dir()}


def test_a_node_that_goes_wrong_is_set_aside_and_comes_back(three: list[Host], world: Path) -> None:
    """After the check, the run of one host becomes read-only for a while, and no trial fails for it."""
    head, _, wrong = three
    runs = world / "runs"
    run = runs / "run"
    seen = world / "seen.txt"
    driver = head.start("sh", "-c", 'exec "$@" 2>"$0"', seen, *search(world, head, "long"))
    wait_until(lambda: begun(run) >= 3, driver)
    wrong.shell(f"mount --bind '{runs}' '{runs}'; mount -o remount,bind,ro '{runs}'")
    wait_until(lambda: f"node {wrong.address} is set aside for 10 s (Read-only file system" in seen.read_text(), driver)
    wrong.shell(f"umount -l '{runs}'")
    wait_until(lambda: f"node {wrong.address} is used, now 3 nodes, 3 slots" in seen.read_text(), driver)
    assert driver.wait() == 0, seen.read_text()
    ledger = open_run(run).ledger
    assert len(ledger.results()) == 6
    assert not list(run.glob("trials/*/*/failure.json"))


def test_a_link_is_cut_and_healed(three: list[Host], world: Path) -> None:
    """The node's Ray ends itself when the link is back; when it is started again, the node is used."""
    head, _, cut = three
    run = world / "runs" / "run"
    seen = world / "seen.txt"
    driver = head.start("sh", "-c", 'exec "$@" 2>"$0"', seen, *search(world, head, "long"))
    wait_until(lambda: begun(run) >= 3, driver)
    cut.cut()
    wait_until(lambda: f"node {cut.address} lost, 1 trial put back, now 2 nodes, 2 slots" in seen.read_text(), driver)
    cut.heal()
    cut.stop_ray()
    cut.start_ray(head=head.address)
    wait_until(lambda: f"node {cut.address} is used, now 3 nodes, 3 slots" in seen.read_text(), driver)
    assert driver.wait() == 0, seen.read_text()
    assert leaderboard(run) == alone(world, "long")


def test_the_head_is_lost_and_the_run_resumes_elsewhere(three: list[Host], world: Path) -> None:
    first, second, third = three
    run = world / "runs" / "run"
    driver = second.start(*search(world, second, "long")[:-1], f"{first.address}:{PORT}")
    wait_until(lambda: len(results(run)) >= 1, driver)
    first.kill("gcs_server")
    said = driver.communicate()[1]
    assert driver.returncode == 1, said
    *_, line = said.splitlines()
    resume = f"resume with `sersearch resume {run} --address {first.address}:{PORT}`"
    assert line == f"sersearch: the cluster's head at {first.address}:{PORT} is lost; finished work is kept: {resume}"

    before = results(run)
    for host in three:
        host.stop_ray()
    second.start_ray()
    third.start_ray(head=second.address)
    where = ["--address", f"{second.address}:{PORT}"]
    dying = second.start(*second.sersearch("resume", run, *where))
    wait_until(lambda: len(results(run)) > len(before), dying)
    # A second driver is refused while the first may be alive: from another host that can't be seen.
    refused = third.run(*third.sersearch("resume", run, *where))
    assert refused.returncode == 2
    assert "another search works on this run (host host2, process" in refused.stderr
    second.kill_driver(str(run))
    refused = third.run(*third.sersearch("resume", run, *where))
    assert refused.returncode == 2
    resumed = third.run(*third.sersearch("resume", run, *where, "--take-over"))
    assert resumed.returncode == 0, resumed.stderr
    assert before.items() <= results(run).items()
    assert leaderboard(run) == alone(world, "long")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so Ray's grants are no fake")
def test_gpus_that_ray_grants_and_torch_does_not_find(three: list[Host], world: Path) -> None:
    head, _, fake = three
    fake.stop_ray()
    fake.start_ray(gpus=1, head=head.address)
    done = head.run(*search(world, head, "gpus"))
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    assert f"no node is left that can train a trial (node {fake.address}: torch finds no CUDA device there)" in line
    assert not (world / "runs" / "run" / "trials").exists()


def test_a_driver_without_the_clusters_token(world: Path) -> None:
    with hosts(2, world) as (head, other):
        head.shell("mkdir -p ~/.ray; umask 077; printf 0123456789abcdef0123456789abcdef > ~/.ray/auth_token")
        head.start_ray(mode="token")
        done = other.run(*search(world, other)[:-1], f"{head.address}:{PORT}")
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith(f"sersearch: --address {head.address}:{PORT} was given, but ")
    assert "RAY_AUTH_MODE=token" in line
