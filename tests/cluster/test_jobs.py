"""A store that a Ray cluster builds: the bytes of one machine's, whatever is lost, and what is refused before."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from sersearch.cluster.jobs import cluster_jobs, on_cluster
from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.store.reader import Store, open_store
from sersearch.store.verify import verify_store
from tests.disks import small_disk_at

pytestmark = pytest.mark.slow("starts a Ray cluster of several nodes")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of two nodes of one core, whose head runs no jobs."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def features(cluster: Cluster, corpus: Path, noise: Path, out: Path) -> list[str]:
    """The command for the tiny store, with paths that hold from the folder of the test alone."""
    words = ["features", "--corpus", f"tiny={os.path.relpath(corpus)}", "--noise", os.path.relpath(noise)]
    words += ["--noises", "2", "--snrs", "1", "--out", os.path.relpath(out), "--address", cluster.address]
    return [sys.executable, "-m", "sersearch", *words]


def files(store: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in store.iterdir() if path.suffix in (".parquet", ".json")}


def test_the_bytes_are_those_of_one_machine(
    cluster: Cluster, tiny_corpus: Path, tiny_noise: Path, tiny_store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    done = subprocess.run(features(cluster, tiny_corpus, tiny_noise, out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {name: digest for name, digest in files(out).items() if name.endswith(".parquet")}
    assert built == {name: digest for name, digest in files(tiny_store.path).items() if name.endswith(".parquet")}
    assert open_store(out).fingerprint == tiny_store.fingerprint
    assert verify_store(open_store(out)) == []


def test_a_build_that_is_killed_resumes(
    cluster: Cluster, tiny_corpus: Path, tiny_noise: Path, tiny_store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    command = features(cluster, tiny_corpus, tiny_noise, out)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
        while not list(out.glob("*.parquet")) and build.poll() is None:
            time.sleep(0.01)
        build.send_signal(signal.SIGKILL)
    first = files(out)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = files(out)
    assert {name: built[name] for name in first if name != "store.json"} == {
        name: digest for name, digest in first.items() if name != "store.json"
    }
    assert {name for name in built if name != "store.json"} == {info.file for info in tiny_store.speakers}
    assert all(built[info.file] == info.sha256 for info in tiny_store.speakers)
    assert verify_store(open_store(out)) == []


def test_a_full_disk_is_one_line(cluster: Cluster, tiny_corpus: Path, tiny_noise: Path, tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", "64k") as disk:
        command = features(cluster, tiny_corpus, tiny_noise, disk / "store")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        *_, line = done.stderr.splitlines()
        assert "No space left on device" in line
        assert "Traceback" not in done.stderr


def die_once(marker: str) -> str:
    """End the worker process the first time, without a word."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return marker
    os._exit(1)


def fail(job: str) -> str:
    raise InputError(f"{job}: can't be decoded")


def test_jobs(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    markers = [str(tmp_path / name) for name in "abc"]
    with cluster_jobs(cluster.address, [tmp_path], tmp_path / "new" / "store"):
        assert sorted(on_cluster(die_once, markers)) == markers
        assert sorted(on_cluster(str.upper, list("abcdefg"), workers=2)) == list("ABCDEFG")
        assert list(on_cluster(str.upper, [])) == []
        with pytest.raises(InputError, match=r"^a: can't be decoded$"):
            list(on_cluster(fail, ["a"]))
    assert not ray.is_initialized()
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".sersearch-*"))


def test_what_nodes_do_not_see_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with (
        pytest.raises(
            InputError, match=rf"^node .* does not see {missing}, or can't write there: put it where all nodes"
        ),
        cluster_jobs(cluster.address, [missing], tmp_path / "store"),
    ):
        pass
    assert not ray.is_initialized()


def test_a_cluster_without_cores_is_refused(tmp_path: Path) -> None:
    head = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        with (
            pytest.raises(InputError, match="no node of the cluster has a core"),
            cluster_jobs(head.address, [], tmp_path),
        ):
            pass
    finally:
        head.shutdown()


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Ray cluster answers there"), cluster_jobs("127.0.0.1:1", [], tmp_path):
        pass
