"""The rendered job on a real SLURM: stopped by its time limit and by preemption, it resumes to the same leaderboard."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.run.run import start_run
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.training.system import run_trial, system_class
from tests.cluster.slurm import Slurm, running_slurm
from tests.search.test_search import leaderboard

pytestmark = pytest.mark.slow("it runs SLURM, whose shortest time limit is a minute")

ROOT = Path(__file__).parents[2]
STUDY = """
name = "{name}"
systems = ["snowed_in.py"]
spaces = [{{ name = "s", model = "snowed-in", rate = [0.05, 0.1, 0.2, {rate}] }}]
resources = {{ checkpoint_every_s = 0 }}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("RAY_ADDRESS", raising=False)
        with running_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
            yield slurm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two studies, where it snows."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("snowed_in.py"), folder)
    (folder / "snow").touch()
    for name, rate in (("first", 0.3), ("second", 0.4)):
        (folder / f"{name} study.toml").write_text(STUDY.format(name=name, rate=rate))
    return folder


def render(folder: Path, *options: object) -> Path:
    """Render a job into a folder."""
    job = folder / "job.sh"
    words = ["cluster", "slurm", *map(str, options), "--cpus", "2", "--stop-before-s", "60", "--out", str(job)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return job


def undisturbed(study: Path, store: Store, out: Path) -> bytes:
    """The leaderboard of the same trials, trained in this process one after the other."""
    (study.parent / "snow").unlink(missing_ok=True)
    run = start_run(out, load_study(study), store.path)
    for trial in run.agenda().left:
        data = system_class(trial.configuration).open_data(run.store, trial)
        run_trial(trial, data, attempt=run.ledger.begin(trial))
    return leaderboard(out)


def wait_for_epochs(slurm: Slurm, job: str, run: Path) -> None:
    """Wait until a trial of a run has a checkpoint."""
    slurm.wait_until(job, lambda facts: any(run.glob("trials/*/*/checkpoint*")), "training")


def test_an_array_that_its_time_limit_stops(slurm: Slurm, folder: Path, tiny_store: Store, tmp_path: Path) -> None:
    studies = [folder / "first study.toml", folder / "second study.toml"]
    runs = [folder / "runs" / study.stem for study in studies]
    job = slurm.submit(
        render(folder, *studies, "--store", tiny_store.path, "--run", folder / "runs", "--time", "01:00:00")
    )
    for task, run in enumerate(runs):
        wait_for_epochs(slurm, f"{job}_{task}", run)
    # An hour is too long for a test: the limit is set to what is over, and one to two minutes more.
    hours, minutes, _ = slurm.facts(f"{job}_0")["RunTime"].split(":")
    slurm.call("scontrol", "update", f"JobId={job}", f"TimeLimit={60 * int(hours) + int(minutes) + 2}")
    for task in range(2):
        slurm.wait_until(f"{job}_{task}", lambda facts: facts["Restarts"] == "1", "requeued")
    slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    (folder / "snow").unlink()
    for task in range(2):
        slurm.wait_until(f"{job}_{task}", lambda facts: facts["JobState"] == "COMPLETED", "completed")
        facts = slurm.facts(f"{job}_{task}")
        assert facts["Restarts"] == "1", "requeued alone, and not once it is complete"
        assert not Path(f"/tmp/ray-sersearch-{facts['JobId']}-0").exists()
    assert slurm.log().count("requeueing job") == 2
    for study, run in zip(studies, runs, strict=True):
        assert "stopped by SIGTERM" in slurm.log()
        assert leaderboard(run) == undisturbed(study, tiny_store, tmp_path / f"undisturbed {study.stem}")


def test_a_job_on_two_nodes_that_is_preempted(slurm: Slurm, folder: Path, tiny_store: Store, tmp_path: Path) -> None:
    study, run = folder / "first study.toml", folder / "run"
    options = ("--nodes", 2, "--gpus", 1, "--gpu-type", "a100", "--memory-gb", 1, "--partition", "main")
    job = slurm.submit(render(folder, study, "--store", tiny_store.path, "--run", run, "--time", "01:00:00", *options))
    wait_for_epochs(slurm, job, run)
    urgent = folder / "urgent.sh"
    urgent.write_text("#!/bin/sh\nwhile [ -e snow ]; do sleep 1; done\n")
    other = slurm.submit(urgent, "--partition=urgent", "--nodes=2", "--exclusive", f"--chdir={folder}")
    slurm.wait_until(job, lambda facts: facts["Restarts"] == "1", "requeued")
    slurm.wait_until(other, lambda facts: facts["JobState"] == "RUNNING", "preempting")
    (folder / "snow").unlink()
    slurm.wait_until(job, lambda facts: facts["JobState"] == "COMPLETED", "completed")
    facts = slurm.facts(job)
    assert facts["Restarts"] == "1"
    assert "gres:gpu:a100:1" in facts["TresPerNode"]
    assert leaderboard(run) == undisturbed(study, tiny_store, tmp_path / "undisturbed")


def test_what_is_not_requeued(slurm: Slurm, folder: Path, tiny_store: Store) -> None:
    """A search whose input is wrong ends the job with its exit code, and a job that is cancelled stays so."""
    study, run = folder / "first study.toml", folder / "run"
    options = ("--store", tiny_store.path, "--run", run, "--time", "01:00:00")
    cancelled = slurm.submit(render(folder, study, *options))
    wait_for_epochs(slurm, cancelled, run)
    (folder / "job.sh").unlink()
    wrong = slurm.submit(render(folder, folder / "none.toml", *options))
    slurm.call("scancel", cancelled)
    for job, state in ((cancelled, "CANCELLED"), (wrong, "FAILED")):
        slurm.wait_until(
            job,
            lambda facts: "EndTime" in facts and facts["JobState"] not in ("RUNNING", "COMPLETING", "PENDING"),
            "ended",
        )
        facts = slurm.facts(job)
        assert (facts["JobState"], facts["Restarts"]) == (state, "0"), slurm.log()
    assert slurm.facts(wrong)["ExitCode"] == "2:0"
    assert "none.toml: no such file" in slurm.log()
