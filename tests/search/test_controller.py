"""Ray Tune's memory of trials that have ended: what is forgotten, and that all that is touched is there in this Ray."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sersearch.search.scheduler import FORGET_EVERY
from sersearch.search.turns import pending_trials
from tests.search.controller_runs import TRIALS


def run_tune(run: str, folder: Path) -> Any:
    """Run Ray Tune in a process of its own; what the run says."""
    command = [sys.executable, "-m", "tests.search.controller_runs", run, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow("it starts Ray")
def test_ray_tune_forgets_ended_trials_and_still_hears_of_each_once(tmp_path: Path) -> None:
    found = run_tune("forget", tmp_path)
    others = [number for number in range(1, TRIALS + 1) if number != FORGET_EVERY]
    assert sorted(number for number in found["heard"] if number) == others
    assert found["heard"].count(None) == 1
    (lost,) = found["lost"]
    assert "RuntimeError: lost" in lost
    # What waits, what runs, and what has ended since the last time.
    bound = pending_trials(2) + 4 + FORGET_EVERY
    assert found["most_in_memory"] <= bound < TRIALS
    assert found["results"] <= bound
    # Nothing else in Ray keeps a trial that was forgotten.
    assert found["made"] == TRIALS
    assert found["alive"] <= bound
    assert found["requests"] <= bound


@pytest.mark.slow("it starts Ray")
@pytest.mark.parametrize("run", ["recall", "recall named"])
def test_a_trial_that_could_go_to_a_node_that_is_used_again_is_recalled(run: str, tmp_path: Path) -> None:
    assert run_tune(run, tmp_path)["heard"] == [False, True]


@pytest.mark.parametrize(("slots", "pending"), [(0, 16), (2, 16), (256, 16), (6400, 400)])
def test_pending_trials_grow_with_the_cluster(slots: int, pending: int) -> None:
    assert pending_trials(slots) == pending


def test_ray_tune_imports_no_integrations_to_count_callbacks() -> None:
    script = """
import sys
from ray.tune import tune as of_ray
from sersearch.search.controller import NoProgress, count_no_callbacks
count_no_callbacks()
of_ray.air_usage.tag_callbacks([NoProgress()])
print([name for name in sys.modules if name.startswith("ray.air.integrations.")])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
