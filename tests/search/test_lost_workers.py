"""Workers that are killed many times over, nodes that go, and what no node has."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sersearch.run.run import open_run
from sersearch.store.reader import Store
from tests.search.test_search import sersearch

pytestmark = pytest.mark.slow("each search starts the real Ray, and its workers are killed")

# Pauses of a real search add up to two minutes.
SHORT_PAUSES = (
    "from sersearch.search import losses, tune; losses.PAUSES_S = (0.0, 0.1, 0.1); tune.NODE_AWAITED_S = 4.0;"
)
PROGRAM = f"{SHORT_PAUSES} from sersearch.__main__ import main; main()"

DEADLY = """
systems = ["deadly_system.py"]
spaces = [{ name = "d", model = "deadly", survives = [0, 1, 9] }]
"""


def sersearch_with_short_pauses(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_lost_workers_are_no_failures_however_many(tiny_store: Store, tmp_path: Path) -> None:
    """Of three trials one dies in each second epoch, one before its first; the third lives."""
    shutil.copy(Path(__file__).with_name("deadly_system.py"), tmp_path)
    (tmp_path / "plague").touch()
    (tmp_path / "study.toml").write_text(DEADLY)
    run = tmp_path / "run"
    done = sersearch_with_short_pauses("search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", run)
    assert done.returncode == 1, done.stderr
    ledger = open_run(run).ledger
    results = ledger.results()
    (unfinished,) = set(ledger.keys()) - set(results)
    attempts = {dict(result.trial.configuration)["survives"]: ledger.attempts(key) for key, result in results.items()}
    assert attempts == {1: 6, 9: 1}
    assert ledger.attempts(unfinished) == 4
    assert ledger.failures(unfinished) == []
    (line,) = [line for line in done.stderr.splitlines() if "resume with" in line]
    reason = "lost 4 workers in a row without an epoch between them (its worker process died)"
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
    (line,) = done.stderr.splitlines()
    assert line.startswith("sersearch: study big: a trial takes ")
    assert lack in line
    assert line.endswith("set cpus and gpus in [resources] to less, or add a node")
    assert not (tmp_path / "run" / "trials").exists()
