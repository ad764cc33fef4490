"""Ctrl-C, pressed for real, at any moment of any command."""

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sersearch.store.reader import Store
from tests.generated import generate_run

pytestmark = pytest.mark.slow("each command is started, which takes seconds, and interrupted")

LINE = "sersearch: stopped by Ctrl-C; finished work is kept\n"
STUDY = """
name = "tiny"
spaces = [{ name = "s", model = "S-CLDNN", h1 = [5, 22], h2 = 3 }, { name = "l", model = "LDNN" }]
training = { maps = 4, cells = 6, dense = [8] }
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "sersearch", *map(str, words)]


@pytest.fixture(scope="module")
def run(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "study.toml").write_text(STUDY)
    generate_run(folder / "run", folder / "study.toml", tiny_store)
    return folder / "run"


def words_of(name: str, run: Path, store: Path, corpus: Path, out: Path) -> list[object]:
    """The command, as one that takes seconds."""
    words: dict[str, list[object]] = {
        "corpus": ["corpus", "tiny", corpus],
        "features": ["features", "--corpus", f"tiny={corpus}", "--out", out / "store"],
        "plan": ["plan", run.parent / "study.toml", "--store", store, "--calibrate"],
        "status": ["status", run, "--verify"],
        "report": ["report", run],
        "probe": ["probe", run],
        "compare": ["compare", run, run],
        "rerun": ["rerun", run, next((run / "trials").iterdir()).name],
        "export": ["export", run, next((run / "trials").iterdir()).name, out / "model"],
        "export-optuna": ["export-optuna", run, f"sqlite:///{out}/studies.db"],
        "demo": ["demo", "--out", out / "demo"],
    }
    return words[name]


NAMES = [
    "corpus",
    "features",
    "plan",
    "status",
    "report",
    "probe",
    "compare",
    "rerun",
    "export",
    "export-optuna",
    "demo",
]


@pytest.mark.parametrize("name", NAMES)
def test_ctrl_c_ends_a_command_with_one_line(
    name: str, run: Path, tiny_store: Store, tiny_corpus: Path, tmp_path: Path
) -> None:
    words = command(*words_of(name, run, tiny_store.path, tiny_corpus, tmp_path))
    # A session of its own, because a terminal sends Ctrl-C to all processes of a command.
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        started = psutil.Process(process.pid)
        while process.poll() is None and started.num_threads() == 1:
            time.sleep(0.01)  # Python itself is starting
        time.sleep(random.Random(name).uniform(0.0, 0.7))
        if process.poll() is not None:
            pytest.skip("the command ended before it could be interrupted")
        family = started.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert said.endswith(LINE), said
    assert "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=10)[1]


@contextmanager
def on_a_terminal(words: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process whose terminal this is, and the other end of the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs), close_fds=False
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_the_key_on_a_terminal(tiny_corpus: Path, tmp_path: Path) -> None:
    """The cursor, which the progress bar hides, is back."""
    with on_a_terminal(command("features", "--corpus", f"tiny={tiny_corpus}", "--out", tmp_path / "store")) as (
        process,
        terminal,
    ):
        screen = b""
        while b"\x1b[?25l" not in screen:
            screen += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        while not screen.endswith(LINE.replace("\n", "\r\n").encode()):
            screen += os.read(terminal, 4096)
        assert process.wait(timeout=60) == 130
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")
