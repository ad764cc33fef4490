"""What Ray prints goes to a file, and what the search prints is seen; a head that is lost is told."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sersearch.search import watchdog
from sersearch.search.watchdog import HeadWatch

PROGRAM = """
import os, sys
from pathlib import Path
from sersearch.interruption import end_process
from sersearch.cluster.connection import output_to
from sersearch.terminal.screen import say_on_stderr

say_on_stderr("before")
with output_to(Path(sys.argv[1])):
    os.write(2, b"compiled words\\n")
    print("printed words")
    os.system("echo words of a child >&2")
    say_on_stderr("progress")
    if sys.argv[2] == "ends":
        end_process(3, "the end")
os.write(2, b"afterwards\\n")
"""


@pytest.mark.slow("it imports the package in another process")
@pytest.mark.parametrize(("how", "last", "code"), [("ends", "the end", 3), ("goes on", "afterwards", 0)])
def test_words_of_ray_and_words_of_the_search(how: str, last: str, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "ray.log"), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr == f"before\nprogress\n{last}\n"
    if how != "ends":
        said = sorted((tmp_path / "ray.log").read_text().splitlines())
        assert said == ["compiled words", "printed words", "words of a child"]


def test_a_head_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and that it answers again; only a longer silence is its loss."""
    monkeypatch.setattr(watchdog, "HEAD_INTERVAL_S", 0.01)
    monkeypatch.setattr(watchdog, "HEAD_AWAITED_S", 1e6)
    said: list[str] = []
    lost = threading.Event()
    told = threading.Event()

    def silent(sentence: str) -> None:
        said.append(sentence)
        told.set()

    def is_lost(reason: str) -> None:
        said.append(reason)
        lost.set()

    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    watch = HeadWatch(address, silent, is_lost)
    try:
        server.close()
        assert told.wait(60)
        told.clear()
        server = socket.create_server(("127.0.0.1", port))
        assert told.wait(60)
        assert said[1:] == [f"the cluster's head at {address} answers again"]
        assert f"{address} does not answer; waiting" in said[0]
        monkeypatch.setattr(watchdog, "HEAD_AWAITED_S", 0.1)
        server.close()
        assert lost.wait(60)
        assert said[3:] == [f"the cluster's head at {address} is lost"]
    finally:
        watch.stop()
        server.close()
