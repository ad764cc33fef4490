"""Ray Tune's memory of trials that have ended: what is forgotten, and that all that is touched is there in this Ray."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import ray
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from sersearch.search.controller import NoProgress, pending_trials
from sersearch.search.environment import configure_ray_tune
from sersearch.search.scheduler import FORGET_EVERY, FirstCome

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    configure_ray_tune()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow("it starts Ray")
@pytest.mark.filterwarnings("ignore")
def test_ray_tune_forgets_ended_trials_and_still_hears_of_each_once(cluster: None, tmp_path: Path) -> None:
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
                scheduler=FirstCome(lambda _, error: lost.append(error), lambda: 2),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(tmp_path),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[NoProgress()],
            ),
        ).fit()
    (controller,) = controllers
    assert sorted(number for number in numbers.heard if number) == [
        number for number in range(1, TRIALS + 1) if number != FORGET_EVERY
    ]
    assert numbers.heard.count(None) == 1
    assert len(lost) == 1
    assert "RuntimeError: lost" in lost[0]
    # What waits, what runs, and what has ended since the last time.
    bound = pending_trials(2) + 4 + FORGET_EVERY
    assert most_in_memory <= bound < TRIALS
    assert len(results) <= bound
    # Nothing else in Ray keeps a trial that was forgotten.
    gc.collect()
    alive = [reference for reference in made if reference() is not None]
    assert len(made) == TRIALS
    assert len(alive) <= bound
    manager = controller._actor_manager
    assert len(manager._pending_actors_to_enqueued_actor_tasks) <= bound


@pytest.mark.parametrize(("slots", "pending"), [(0, 16), (2, 16), (256, 16), (6400, 400)])
def test_pending_trials_grow_with_the_cluster(slots: int, pending: int) -> None:
    assert pending_trials(slots) == pending
