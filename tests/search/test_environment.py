"""Importing the search changes no settings of the process; a search sets what it needs of Ray Tune and Optuna."""

import json
import os
import subprocess
import sys
from typing import Any

import optuna
import pytest

from sersearch.search.environment import RAY_TUNE_VARIABLES, configure_ray_tune

IMPORT_AND_SEARCH = """
import json, os
from unittest.mock import Mock, patch
import numba, optuna, ray.tune, sklearn, torch  # These set variables of their own.

def settings():
    return {"variables": dict(os.environ), "verbosity": optuna.logging.get_verbosity()}

before = settings()
import sersearch.search.export
import sersearch.search.tune as tune
imported = settings()
searching = []

def start_ray(address, folder):
    searching.append(settings())
    return "Ray is not started"

with patch.object(tune, "_start_ray", start_ray), patch.object(tune, "sources", lambda run, agenda: {}):
    tune.search(Mock(), Mock(), Mock(complete=False), {}, Mock())
print(json.dumps({"before": before, "imported": imported, "searching": searching[0]}))
"""

READ_BY_RAY = """
import json, signal
from unittest.mock import Mock, patch
from ray.tune.execution import tune_controller
from ray.tune.experimental.output import get_air_verbosity
from ray.tune.tune import _setup_signal_catching
from ray.tune.utils.callback import _create_default_callbacks
from sersearch.search.environment import configure_ray_tune

def reports(controller, running):  # At most so many steps, and after so many seconds.
    controller._actor_manager.num_actor_tasks = running
    return controller._maybe_buffer_training(Mock(checkpoint_at_end=False, checkpoint_freq=0))

def read_variables():  # As `Tuner.fit` does.
    searcher = Mock(searcher=None)
    controller = tune_controller.TuneController(search_alg=searcher, storage=Mock())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _setup_signal_catching()
    callbacks = _create_default_callbacks([], air_verbosity=get_air_verbosity(0))
    return {
        "writes_files": any(type(callback).__name__.endswith("LoggerCallback") for callback in callbacks),
        "handles_sigint": signal.getsignal(signal.SIGINT) is not signal.default_int_handler,
        "newer_output": get_air_verbosity(0) is not None,
        "pending_trials": tune_controller._get_max_pending_trials(searcher),
        "snapshot_period": controller._checkpoint_period,
        "reports_with_5_running": reports(controller, 5),
        "reports_with_100_running": reports(controller, 100),
        "reports_with_6400_running": reports(controller, 6400),
    }

with (
    patch.object(tune_controller, "RayActorManager"),
    patch.object(tune_controller.TuneController, "_create_checkpoint_manager"),
):
    by_default = read_variables()
    configure_ray_tune()
    print(json.dumps({"by_default": by_default, "configured": read_variables()}))
"""


def run_in_fresh_process(script: str) -> Any:
    """Run a script in a process without the search's variables; parse the JSON that it prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in RAY_TUNE_VARIABLES}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=inherited, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow("a fresh process imports torch and Ray")
def test_importing_changes_nothing_and_a_search_sets_what_it_needs() -> None:
    settings = run_in_fresh_process(IMPORT_AND_SEARCH)
    assert settings["imported"] == settings["before"]
    assert not RAY_TUNE_VARIABLES.keys() & settings["imported"]["variables"].keys()
    assert settings["imported"]["verbosity"] == optuna.logging.INFO
    assert settings["searching"]["variables"] == settings["before"]["variables"] | RAY_TUNE_VARIABLES
    assert settings["searching"]["verbosity"] == optuna.logging.ERROR


def test_a_variable_that_is_set_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RAY_TUNE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "3")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    configure_ray_tune()
    assert {name: os.environ[name] for name in RAY_TUNE_VARIABLES} == RAY_TUNE_VARIABLES | {
        "TUNE_MAX_PENDING_TRIALS_PG": "3"
    }


@pytest.mark.slow("a fresh process imports torch and Ray")
def test_ray_obeys_each_variable_although_it_is_set_after_the_import() -> None:
    ray_tune = run_in_fresh_process(READ_BY_RAY)
    assert ray_tune["by_default"] == {
        "writes_files": True,
        "handles_sigint": True,
        "newer_output": True,
        "pending_trials": 1,
        "snapshot_period": "auto",
        "reports_with_5_running": [1, 0],
        "reports_with_100_running": [1, 10],
        "reports_with_6400_running": [1, 100],
    }
    assert ray_tune["configured"] == {
        "writes_files": False,
        "handles_sigint": False,
        "newer_output": False,
        "pending_trials": 16,
        "snapshot_period": "1e9",
        "reports_with_5_running": [1000, 0],
        "reports_with_100_running": [1000, 10],
        "reports_with_6400_running": [1000, 30],
    }


def test_a_driver_does_without_torch() -> None:
    """Importing torch takes a second of each search's start and 400 MiB; workers alone need it."""
    script = "import sys, sersearch.search.tune, sersearch.terminal.live; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
