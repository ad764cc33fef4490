"""The private folder of a search, and the Ray in it, which is closed to everybody else."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sersearch.search import session
from sersearch.search.session import PREFIX, remove_dead_sessions, session_folder
from sersearch.store.reader import Store
from tests.search.test_search import STUDY, command

HOLD = """
import sys, time
from sersearch.search.session import session_folder
with session_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""

CONNECT = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    client = GcsClient(address=sys.argv[1])
    print("admitted", client.cluster_id)
except AuthenticationError:
    print("refused")
"""


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("base")
    monkeypatch.setattr(session, "LONGEST_BASE", 1000)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    return folder


def test_the_folder_of_a_search_is_private_and_removed_at_its_end(base: Path) -> None:
    with session_folder() as folder:
        assert folder.parent == base
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "ray").mkdir()
        (folder / "ray" / "log").write_text("of Ray")
    assert not folder.exists()


def test_folders_of_killed_searches_are_removed_and_no_others(base: Path) -> None:
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (base / f"{PREFIX}link").symlink_to(elsewhere)
    (base / f"{PREFIX}file").touch()
    dead = base / f"{PREFIX}dead"
    (dead / "ray").mkdir(parents=True)
    (dead / "ray" / "link").symlink_to(elsewhere)
    with session_folder() as living:
        assert not dead.exists()
        remove_dead_sessions(base)
        assert living.is_dir()
    assert (elsewhere / "precious").exists()
    assert {path.name for path in base.iterdir()} == {"elsewhere", f"{PREFIX}link", f"{PREFIX}file"}


def test_a_folder_of_another_user_is_left(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base / f"{PREFIX}other"
    folder.mkdir()
    another_user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another_user)
    remove_dead_sessions(base)
    assert folder.is_dir()


def test_a_folder_outlives_a_killed_process_until_the_next_search(base: Path) -> None:
    environment = os.environ | {"RAY_TMPDIR": "", "TMPDIR": "/tmp"}
    words = [sys.executable, "-c", HOLD]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        remove_dead_sessions(folder.parent)
        assert folder.is_dir()
        process.kill()
    assert folder.is_dir()
    remove_dead_sessions(folder.parent)
    assert not folder.exists()


def test_a_long_path_of_temporary_files_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (long := tmp_path / ("long" * 20)).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with session_folder() as folder:
        assert long not in folder.parents
        assert len(str(folder / "ray/session_2026-11-27_11-07-31_786896_4194304/sockets/plasma_store")) <= 107


def _listening(driver: int) -> dict[tuple[str, int], str]:
    """Addresses at which a process and its descendants accept connections, each with the name of the process."""
    parent = psutil.Process(driver)
    found = {}
    for process in [parent, *parent.children(recursive=True)]:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM:
                found[connection.laddr.ip, connection.laddr.port] = process.name()
    return found


@pytest.mark.slow("it starts the real Ray and searches")
def test_the_ray_of_a_search_is_closed_to_others(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        STUDY.format(epochs="50", w1="[3, 8]").replace("[training]", "[training]\npatience = 50")
        + "[resources]\ncheckpoint_every_s = 0\n"
    )
    run, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "TMPDIR": "/tmp"}
    words = command("search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", run)
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as driver:
        try:
            _wait(driver, lambda: any(run.glob("trials/*/*/epochs.jsonl")))
            listening = _listening(driver.pid)
            (address,) = [f"127.0.0.1:{port}" for (_, port), name in listening.items() if name == "gcs_server"]
            answers = {mode: _connect(address, mode) for mode in ("disabled", "wrong")}
            (folder,) = [path for path in Path("/tmp").glob(f"{PREFIX}*") if _is_held_by(path, driver.pid)]
            modes = [folder.stat().st_mode & 0o777, (folder / "token").stat().st_mode & 0o777]
            token = (folder / "token").read_text()
            answers["right"] = _connect(address, token)
        finally:
            os.killpg(driver.pid, signal.SIGKILL)
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, listening
    assert answers["disabled"] == answers["wrong"] == "refused"
    assert answers["right"].startswith("admitted")
    assert modes == [0o700, 0o600]
    assert not (home / ".ray").exists()
    assert folder.is_dir()
    remove_dead_sessions(folder.parent)
    assert not folder.exists()


def _wait(driver: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert driver.poll() is None, "the search ended early"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _connect(address: str, token: str) -> str:
    """Ask the Ray at an address who it is, with a token or without one, as another user's process would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    mode = {"RAY_AUTH_MODE": "disabled"} if token == "disabled" else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    words = [sys.executable, "-c", CONNECT, address]
    done = subprocess.run(words, env=environment | mode, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _is_held_by(folder: Path, process: int) -> bool:
    return any(os.path.realpath(file) == str(folder) for file in Path(f"/proc/{process}/fd").iterdir())
