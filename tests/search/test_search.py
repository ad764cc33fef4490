"""Searches with the real Ray, in processes of their own, killed for real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sersearch.report.folder import make_report
from sersearch.report.text import comma_separated
from sersearch.run.ledger import Ledger
from sersearch.run.run import open_run
from sersearch.run.storage import Folder
from sersearch.store.reader import Store

pytestmark = pytest.mark.slow("each search starts the real Ray, which takes seconds, and some are killed and resumed")

STUDY = """
name = "tiny"
spaces = [
    {{ name = "s", model = "S-CLDNN", h1 = [5, 22], h2 = 3 }},
    {{ name = "t", model = "T-CLDNN", w1 = [3, 6], w2 = 2 }},
{{ name = "st", model = "ST-CLDNN", h1 = [5, 22], h2 = 3, w1 = [3, 6], w2 = 2, top = {{ k = 1, h = "s", w = "t" }} }},
    {{ name = "fst", model = "FST-CLDNN", features = ["log-mels", "mfccs"], w1 = {w1}, w2 = 2 }},
]
[training]
epochs = {epochs}
maps = 4
cells = 6
dense = [8]
learning_rate = 0.01
"""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "tiny", **values: str) -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(STUDY.format(**{"epochs": "3", "w1": "[3, 8]"} | values))
        return path

    return write


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "sersearch", *map(str, words)]


def sersearch(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, check=False)


def leaderboard(run: Path) -> bytes:
    """What `sersearch report` writes to leaderboard.csv, without its pictures."""
    return comma_separated(make_report(open_run(run), print)).encode()


def results(run: Path) -> dict[str, int]:
    """When each trial that is done was committed."""
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob("trials/*/result.json")}


def attempts(run: Path) -> dict[str, int]:
    ledger = Ledger(Folder(run))
    return {key: ledger.attempts(key) for key in ledger.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def finished(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(STUDY.format(epochs="3", w1="[3, 8]"))
    done = sersearch("search", folder / "tiny.toml", "--store", tiny_store.path, "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "all 9 trials are done" in done.stdout
    return folder / "run"


def test_a_grid_is_trained_exactly_once(finished: Path) -> None:
    assert len(results(finished)) == 2 + 2 + 1 + 4
    assert set(attempts(finished).values()) == {1}
    before = results(finished)
    again = sersearch("resume", finished)
    assert again.returncode == 0
    assert results(finished) == before
    status = json.loads(sersearch("status", finished, "--format", "json").stdout)
    assert (status["done"], status["total"], status["left"], status["complete"]) == (9, 9, 0, True)


def test_the_leaderboard_opens_the_test_once_for_each_winner(finished: Path) -> None:
    first = leaderboard(finished)
    openings = {path: path.read_bytes() for path in (finished / "openings").iterdir()}
    assert len(openings) == len(first.splitlines()) - 1 == 2 * 5
    assert sersearch("report", finished).returncode == 0
    assert (finished / "report" / "leaderboard.csv").read_bytes() == first
    assert {path: path.read_bytes() for path in (finished / "openings").iterdir()} == openings
    rows = json.loads((finished / "report" / "leaderboard.json").read_text())["rows"]
    assert {row["space"] for row in rows} == {"s", "t", "st", "fst"}
    assert all(0 <= row["test_ua"] <= 100 for row in rows)


@pytest.mark.parametrize("after", [0, 4])
def test_killed_half_way_and_started_again(
    finished: Path, tiny_store: Store, tmp_path: Path, study: Callable[..., Path], after: int
) -> None:
    run = tmp_path / "run"
    words = command("search", study(), "--store", tiny_store.path, "--run", run)
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as driver:
        deadline = time.monotonic() + 120
        while len(results(run)) < after or not attempts(run):
            assert driver.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    before, begun = results(run), attempts(run)
    assert len(before) < 9
    partial = sersearch("report", run)
    assert "Unfinished" in partial.stdout
    assert not (run / "test").exists()

    resumed = sersearch("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    after_kill = results(run)
    assert before.items() <= after_kill.items(), "a finished trial was trained or written again"
    assert all(attempts(run)[key] == begun[key] for key in before)
    assert leaderboard(run) == leaderboard(finished)


def test_extending_in_place_and_what_is_refused(
    finished: Path, tiny_store: Store, tmp_path: Path, study: Callable[..., Path]
) -> None:
    run = tmp_path / "run"
    sersearch("search", study("narrow", w1="[3]"), "--store", tiny_store.path, "--run", run)
    before = results(run)
    assert len(before) == 7
    refused = sersearch("search", study("longer", epochs="4"), "--store", tiny_store.path, "--run", run)
    assert refused.returncode == 2
    assert "training was" in refused.stderr
    assert "name a new run folder" in refused.stderr
    assert results(run) == before
    wider = sersearch("search", study(), "--store", tiny_store.path, "--run", run)
    assert wider.returncode == 0
    assert before.items() <= results(run).items()
    assert leaderboard(run) == leaderboard(finished)


def test_a_failing_trial_does_not_sink_the_others(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        """
        spaces = [{ name = "lr", model = "LDNN", learning_rate = [0.001, 1e30] }]
        [training]
        epochs = 1
        cells = 4
        dense = [4]
        """
    )
    run = tmp_path / "run"
    done = sersearch("search", tmp_path / "bad.toml", "--store", tiny_store.path, "--run", run)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{run}: trial")]
    assert "failed: FloatingPointError: epoch 1: training loss" in line
    assert "--retry-failed" in done.stderr
    assert len(results(run)) == 1
    (failed,) = json.loads(sersearch("status", run, "--format", "json").stdout)["failed"].values()
    assert failed.startswith("FloatingPointError")
    again = sersearch("resume", run)
    assert again.returncode == 1
    assert set(attempts(run).values()) == {1}, "a failed trial is tried again only if asked for"
    assert sersearch("resume", run, "--retry-failed").returncode == 1
    assert sorted(attempts(run).values()) == [1, 2]
