"""Runs of Ray Tune with the scheduler of a search; what they print as JSON is for test_controller.py."""

import gc
import json
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sersearch.search.controller import NoProgress
from sersearch.search.environment import configure_ray_tune
from sersearch.search.places import bundle
from sersearch.search.scheduler import FORGET_EVERY, FirstCome
from sersearch.search.turns import pending_trials

TRIALS = 2 * FORGET_EVERY + 40


class Step(tune.Trainable):
    """Takes one step, in which some trials lose their worker."""

    def setup(self, config: dict[str, Any]) -> None:
        self.number = config["number"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self.number == FORGET_EVERY:
            raise RuntimeError("lost")
        return {"done": True, "number": self.number}


class Numbers(Searcher):
    """Suggests numbers, and looks at Ray Tune's memory when it has heard of so many trials."""

    def __init__(self) -> None:
        super().__init__()
        self.suggested = 0
        self.heard: list[int | None] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        self.suggested += 1
        return {"number": self.suggested} if self.suggested <= TRIALS else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.heard.append(result["number"] if result else None)

    def save(self, checkpoint_path: str) -> None: ...
    def restore(self, checkpoint_path: str) -> None: ...
    def __getstate__(self) -> dict[str, Any]:
        return {}


def forget(folder: Path) -> dict[str, Any]:
    """Train all trials; see the test for what is returned."""
    controllers: list[TuneController] = []
    made: list[weakref.ref[Trial]] = []
    most_in_memory = 0
    original_init, original_step, original_add = TuneController.__init__, TuneController.step, TuneController.add_trial

    def init(self: TuneController, **arguments: Any) -> None:
        controllers.append(self)
        original_init(self, **arguments)

    def add_trial(self: TuneController, trial: Trial) -> None:
        made.append(weakref.ref(trial))
        original_add(self, trial)

    def step(self: TuneController) -> None:
        nonlocal most_in_memory
        original_step(self)
        most_in_memory = max(most_in_memory, len(self._trials))

    lost: list[str] = []
    numbers = Numbers()
    with (
        patch.object(TuneController, "__init__", init),
        patch.object(TuneController, "step", step),
        patch.object(TuneController, "add_trial", add_trial),
    ):
        results = tune.Tuner(
            Step,
            tune_config=tune.TuneConfig(
                search_alg=numbers,
                scheduler=FirstCome(lambda _, error: lost.append(error), lambda: pending_trials(2)),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[NoProgress()],
            ),
        ).fit()
    (controller,) = controllers
    gc.collect()
    return {
        "heard": numbers.heard,
        "lost": lost,
        "most_in_memory": most_in_memory,
        "results": len(results),
        "made": len(made),
        "alive": sum(reference() is not None for reference in made),
        "requests": len(controller._actor_manager._pending_actors_to_enqueued_actor_tasks),
    }


class Placed(Searcher):
    """Suggests one trial that can't go to the only node, and again without that when it is recalled."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.node = ray.get_runtime_context().get_node_id()
        self.heard: list[bool] = []
        self.places = [{"nodes": ["f" * 56], "avoided": []} if named else {"nodes": [], "avoided": [self.node]}]
        self.places.append({"nodes": [self.node] if named else [], "avoided": []})
        self.waits_since_s = 0.0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.heard) == 2:
            return str(Searcher.FINISHED)
        if len(self.places) + len(self.heard) < 2:
            return None
        self.waits_since_s = time.monotonic()
        return {"number": 1, "gpus": 0, **self.places.pop(0)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.heard.append(result is not None)

    def used_again(self) -> set[str]:
        is_waiting = not self.heard and 0 < self.waits_since_s < time.monotonic() - 2
        return {self.node} if is_waiting else set()

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {}


def recall(folder: Path, named: bool = False) -> dict[str, Any]:
    """Train a trial that avoids the only node, or is sent to another one by name, until the only one is used again."""
    placed = Placed(named)
    tune.Tuner(
        tune.with_resources(Step, lambda config: bundle(1, config)),
        tune_config=tune.TuneConfig(
            search_alg=placed,
            scheduler=FirstCome(lambda *_: None, lambda: pending_trials(2), placed.used_again),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[NoProgress()],
        ),
    ).fit()
    return {"heard": placed.heard}


if __name__ == "__main__":
    configure_ray_tune()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    runs: dict[str, Callable[[Path], dict[str, Any]]]
    runs = {"forget": forget, "recall": recall, "recall named": partial(recall, named=True)}
    found = runs[sys.argv[1]](Path(sys.argv[2]))
    ray.shutdown()
    print(json.dumps(found))
